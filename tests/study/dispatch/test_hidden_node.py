"""A study on two nodes, the second of which sees neither the driver's folders nor its source."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hiri_search.study.ledger.events import AnyEvent, TrialBegan, TrialFinished
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import reproduced
from tests.own_code import MIX, NETWORK, write_blocks
from tests.study.dispatch.hidden_node import HIDDEN, ON_HIDDEN, TwoNodes, two_nodes
from tests.study.search.searches import ROWS

pytestmark = [pytest.mark.waits, pytest.mark.slow]  # starts two nodes, and processes that import torch
ROOT = Path(__file__).parents[3]
STUDY = f"""{ROWS}
proxy: {{width: 4, side: 32, classes: 4}}
data: {{source: drawn, train: 192, val: 32}}
recipe: {{epochs: 4, batch: 16, warmup_epochs: 0, mixup: 0.2, drop_path: 0.1}}
seeds: 1
"""
READ = """
import ray
from pathlib import Path

def read(path):
    return Path(path).read_text() if Path(path).exists() else f"{len(list(Path(path).parent.iterdir()))} files"

ray.init("ADDRESS", log_to_driver=False)
for resources in RESOURCES:
    print(ray.get(ray.remote(read).options(num_cpus=0, resources=resources).remote("PATH")))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `driver`, which the first node alone sees, and `shared`."""
    home = tmp_path_factory.mktemp("machines")
    for name in ("driver", "shared"):
        (home / name).mkdir()
    return home


@pytest.fixture(scope="module")
def nodes(home: Path) -> Iterator[TwoNodes]:
    with two_nodes(home / "driver", ROOT / "hiri_search", head_cores=1) as nodes:
        yield nodes


def _python(nodes: TwoNodes, *arguments: str) -> str:
    """Run Python on the first node; return its output."""
    command = [sys.executable, *arguments]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | nodes.driver, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def _run_study(home: Path, nodes: TwoNodes, name: str, text: str, *options: str) -> list[AnyEvent]:
    """Run a study of this name by the command; return its events."""
    study, results = home / "driver" / f"{name}.yaml", home / "driver" / name
    study.write_text(f"{STUDY}{text}storage: {home / 'shared'}\n")
    _python(nodes, "run_study.py", str(study), "--results", str(results), *options)
    return read_events(results)


def _curves(events: list[AnyEvent]) -> dict[tuple[str, int], Any]:
    return {(t.network.name, t.asked.seed): reproduced(t.curve) for t in trials(events) if t.state == "finished"}


def _most_at_once(events: list[AnyEvent]) -> int:
    running, most = set(), 0
    for event in events:
        if isinstance(event, TrialBegan):
            running.add(event.trial)
        elif isinstance(event, TrialFinished):
            running.discard(event.trial)
        most = max(most, len(running))
    return most


def test_the_second_node_cannot_read_a_file_of_a_hidden_folder(home: Path, nodes: TwoNodes):
    path = home / "driver" / "my_blocks.py"
    path.write_text("mine")
    places = [{f"node:{nodes.address.partition(':')[0]}": 0.001}, ON_HIDDEN]
    code = READ.replace("ADDRESS", nodes.address).replace("RESOURCES", repr(places)).replace("PATH", str(path))
    assert _python(nodes, "-c", code).splitlines() == ["mine", "0 files"]


def test_a_study_trains_on_a_node_that_sees_the_storage_alone(home: Path, nodes: TwoNodes):
    forced = f"resources: {{needs: {{accelerator: {HIDDEN}}}}}\n"
    events = _run_study(home, nodes, "hidden", forced, "--address", nodes.address)
    assert _curves(events) == _curves(_run_study(home, nodes, "serial", "", "--serial"))
    assert len(_curves(events)) == 2
    assert len(list(nodes.second_cache.glob("*/about.json"))) == 1, "it decoded the images itself, once"
    assert not list((home / "driver" / "hidden" / "checkpoints").iterdir())
    assert len(list((home / "shared" / "hidden" / "checkpoints").glob("*/last.pt"))) == 2


def test_both_nodes_share_the_trials_of_a_study(home: Path, nodes: TwoNodes):
    events = _run_study(home, nodes, "both", "", "--address", nodes.address, "--set", "seeds=4")
    assert len(_curves(events)) == 8
    assert _most_at_once(events) == 2, "each node has one core"


@pytest.mark.parametrize("name", ["make", "floats"])
def test_own_datasets_are_made_on_the_node_that_does_not_see_their_file(name: str, home: Path, nodes: TwoNodes):
    shutil.copy(ROOT / "tests/training/data/own_data.py", home / "driver" / "mine.py")
    arguments = "{side: 32, val_side: 32}" if name == "floats" else "{}"
    own = ["imports=[mine.py]", f"data={{source: python:mine:{name}, arguments: {arguments}}}", "proxy.classes=3"]
    sets = [part for key in (*own, "recipe.batch=8") for part in ("--set", key)]
    forced = f"resources: {{needs: {{accelerator: {HIDDEN}}}}}\n"
    events = _run_study(home, nodes, f"hidden_{name}", forced, "--address", nodes.address, *sets)
    assert _curves(events) == _curves(_run_study(home, nodes, f"serial_{name}", "", "--serial", *sets))
    assert len(_curves(events)) == 2


OWN_STUDY = (
    "imports=[my_blocks.py, own_images.py, own_metrics.py]",
    "nets.mixed=hr(16 e=2) -> mix(16 k=5)",
    "nets.registered=timm:my_network width=8",
    "data={source: python:own_images:make, arguments: {test: 9}}",
    "metrics=[own_metrics:sharpness]",
    "score=sharpness",
    "callbacks.on_epoch=own_metrics:note",
    "proxy.classes=3",
    "recipe.batch=8",
    "recipe.drop_path=0",
)
METRIC = """
def sharpness(logits, labels):
    return float(logits.softmax(1).std())

sharpness.up = False

def note(trial, spec, seed, epoch):
    assert epoch.scores["sharpness"] >= 0, "the callback sees the metric"
"""


def test_blocks_networks_data_metrics_and_callbacks_of_one_user_work_there_together(home: Path, nodes: TwoNodes):
    shutil.copy(ROOT / "tests/training/data/own_data.py", home / "driver" / "own_images.py")
    write_blocks(home / "driver", MIX + NETWORK)
    (home / "driver" / "own_metrics.py").write_text(METRIC)
    sets = [part for key in OWN_STUDY for part in ("--set", key)]
    forced = f"resources: {{needs: {{accelerator: {HIDDEN}}}}}\n"
    events = _run_study(home, nodes, "hidden_own", forced, "--address", nodes.address, *sets)
    assert _curves(events) == _curves(_run_study(home, nodes, "serial_own", "", "--serial", *sets))
    finished = [trial for trial in trials(events) if trial.state == "finished"]
    assert {trial.network.name for trial in finished} == {"small", "other", "mixed", "registered"}
    assert all(
        {"top1", "sharpness"} <= trial.curve[-1].scores.keys() <= trial.curve[-1].test_scores.keys()
        for trial in finished
    )
