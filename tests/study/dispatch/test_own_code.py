"""The user's own code through Ray: each worker runs the bytes that the study was started with."""

from pathlib import Path

import pytest

from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.ray_dispatcher import run_on_ray
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.run_trial import run_trial
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.task import TrialSource
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import reproduced
from hiri_search.study.run import run
from hiri_search.system.shutdown import Shutdown
from tests.own_code import MIX, NETWORK, own_kinds, write_blocks
from tests.study.search.searches import Quiet

STUDY = """
imports: [my_blocks.py]
nets:
  block: hr(16 e=2) -> mix(16 k=5)
  network: timm:my_network width=8
counted: {side: 32, classes: 10}
proxy: {side: 32, classes: 4}
data: {train: 64, val: 32}
recipe: {epochs: 2, batch: 16, warmup_epochs: 0}
seeds: 1
"""


@pytest.mark.waits
def test_own_blocks_and_networks_train_through_ray_as_in_this_process(tmp_path: Path):
    curves = []

    def on_ray(source: TrialSource) -> None:
        blocks.write_text("raise ValueError('edited during the run')")
        run_on_ray(source, TrialResources(2), tmp_path / "ray.log", Shutdown(), trial_function=run_trial)

    with own_kinds():
        for dispatch in (run_serially, on_ray):
            blocks = write_blocks(tmp_path, MIX + NETWORK)
            (tmp_path / "study.yaml").write_text(STUDY)
            folder = tmp_path / f"results{len(curves)}"
            run(read_study(tmp_path / "study.yaml"), folder, dispatch, Quiet(), profile="none")
            finished = [trial for trial in trials(read_events(folder)) if trial.state == "finished"]
            curves.append({trial.network.name: reproduced(trial.curve) for trial in finished})
    assert {*curves[0]} == {"block", "network"}
    assert curves[0] == curves[1]
