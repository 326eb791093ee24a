"""`hiri_search.tune` with Tuners of a user: the digits of a study, any searcher and scheduler, resumed trials."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

import hiri_search
import tests.study.conftest  # noqa: F401 - Ray's variables, which it reads at its import
from hiri_search.language import parse_net
from hiri_search.language.choosers import uniform
from hiri_search.study.callbacks import ProgressCallback
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.read import read_space, read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.dispatch.ray_session import ray_running
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.trial_config import epoch_of
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.run import run
from hiri_search.study.search.search_space import all_options, search_space
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.job import Epoch
from hiri_search.training.recipe import SettingError
from tests.study.search.searches import Quiet
from tests.test_docs import blocks, image_paths

pytestmark = pytest.mark.waits
ROOT = Path(__file__).parents[1]
SMALL = """
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 64, val: 32}
"""
ABLATION = f"""
nets:
  small: hr(32 e=4) -> hr(64 e=4)
  other: {{spec: hr(32 e=4) -> cffn(64 e=4), recipe: {{lr: 0.004}}}}
  shown: {{spec: hr(32 e=4) -> hr(64 e=6), train: false}}
recipe: {{epochs: 3, batch: 16, mixup: 0.2, drop_path: 0.1}}
seeds: [0, 5]
{SMALL}"""
SEARCH = f"""
space: (hr | cffn)(32 e=2..4)*1..2 -> (hr | t(d=32|64))(64 e=4|6)
search: {{zero_cost: [synflow]}}
within: {{mparams: ..0.13}}
recipe: {{epochs: 2, batch: 16, warmup_epochs: 0, ema: 0.0}}
{SMALL}"""
WANTED = {"1.e": 4, "1.n": 2, "1.which": "hr", "2.e": 6, "2.which": "t", "2.t.d": 64}
LOST = {"net": "other", "seed": 5}  # config of the trial whose process dies
TIMES = {"seconds", "seconds_waiting", "images_per_second"}
DIGITS = [name for name in Epoch.__dataclass_fields__ if name not in TIMES]


@pytest.fixture(scope="module")
def _one_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(ROOT))
        with ray_running(None, TrialResources(2), lambda text: None):
            yield


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "study.yaml").write_text(text)
        return tmp_path / "study.yaml"

    return write


def _silent(text: str) -> None:
    pass


def _trainable(study: StudyConfig | Path) -> Callable[[dict[str, Any]], None]:
    return hiri_search.tune.trainable(study, say=_silent)


def _fit(folder: Path, function: Any, space: dict[str, Any], *, max_failures: int = 0, **settings: Any) -> Any:
    """Run a Tuner of two trials at a time."""
    from ray import tune

    return tune.Tuner(
        function,
        param_space=space,
        tune_config=tune.TuneConfig(reuse_actors=True, **settings),
        run_config=tune.RunConfig(
            storage_path=str(folder / "ray"), verbose=0, failure_config=tune.FailureConfig(max_failures=max_failures)
        ),
    ).fit()


def _run_serially(study: StudyConfig, folder: Path) -> list[Trial]:
    callback: ProgressCallback = Quiet()
    run(study, folder, run_serially, callback, profile="none")
    return trials(read_events(folder))


def _epochs(table: Any) -> list[Epoch]:
    """Return the epochs that a data frame of reports holds; a missing number is None."""
    reports = table.astype(object).where(table.notna(), None).to_dict("records")
    return [epoch_of(report) for report in reports]


def _rows(table: Any, names: list[str]) -> list[list[Any]]:
    """Return the rows of a data frame; a missing number is None."""
    return [[None if value != value else value for value in row] for row in table[names].to_numpy(object).tolist()]


# ---- parameter spaces


def test_the_parameters_of_an_ablation_are_its_trained_rows_and_its_seeds(study_file: Callable[[str], Path]):
    path = study_file(ABLATION)
    expected = {"net": ["small", "other"], "seed": [0, 5]}
    assert hiri_search.tune.param_space(path) == {name: {"grid_search": values} for name, values in expected.items()}
    choices = hiri_search.tune.param_space(read_study(path), grid=False)
    assert {name: domain.categories for name, domain in choices.items()} == expected


def test_the_parameters_of_a_search_are_its_decisions(study_file: Callable[[str], Path]):
    domains = hiri_search.tune.param_space(str(study_file(SEARCH)))
    assert {name: domain.categories for name, domain in domains.items()} == {
        "1.which": ["hr", "cffn"],
        "1.e": [2, 3, 4],
        "1.n": [1, 2],
        "2.which": ["hr", "t"],
        "2.e": [4, 6],
        "2.t.d": [32, 64],
    }


@pytest.mark.parametrize("file", sorted((ROOT / "spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_all_decisions_of_large_spaces_are_found(file: Path):
    space, rng = read_space(file), Random(0)
    options = all_options(space)
    for _ in range(200):
        assert space.walk(uniform(rng))[1].keys() <= options.keys()


def test_the_names_of_decisions_pass_through_optuna(study_file: Callable[[str], Path]):
    from ray.tune.search.optuna import OptunaSearch

    searcher = OptunaSearch(metric="top1", mode="max", seed=0)
    searcher.set_search_properties("top1", "max", hiri_search.tune.param_space(study_file(SEARCH)))
    assert searcher.suggest("a").keys() == WANTED.keys()


# ---- configs


@pytest.mark.parametrize(
    ("study", "config", "error", "message"),
    [
        (ABLATION, {"net": "small", "lrr": 1.0}, StudyError, r"lrr is not known; write net, seed, side, .*: epochs, b"),
        (SEARCH, WANTED | {"1.k": 3, "net": "x"}, StudyError, r"1.k, net are not known; write 1\.\w+, 1.*, seed, side"),
        (ABLATION, {"net": "shown"}, StudyError, "net=shown is not possible; write small or other"),
        (ABLATION, {"seed": 1}, StudyError, "net is missing; write small or other"),
        (SEARCH, WANTED | {"1.e": 5}, StudyError, "1.e=5 is not possible; write 2 or 3 or 4"),
        (SEARCH, {"1.e": 2}, StudyError, "the decision 1.n is missing; write 1 or 2"),
        (ABLATION, {"net": "small", "lr": -1.0}, SettingError, "lr=-1.0 is not possible; it must be more than 0"),
        (ABLATION, {"net": "small", "batch": 128}, DataError, "batch=128 is more than the 64 training images"),
        (ABLATION, {"net": "small", "auto_augment": "x"}, DataError, "timm knows no policy 'x'"),
    ],
)
def test_a_mistake_in_a_config_is_found_before_the_training(
    study_file: Callable[[str], Path], study: str, config: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        _trainable(study_file(study))(config)


def test_paths_are_relative_to_the_folder_of_the_driver(
    study_file: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Tune runs a trial in a folder of its own."""
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.tune.report", lambda metrics, checkpoint: reports.append(metrics))
    monkeypatch.setattr("ray.tune.get_checkpoint", lambda: None)
    for number, path in enumerate(image_paths(tmp_path / "images")):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number * 3 % 256, 90, 90)).save(path)
    monkeypatch.chdir(tmp_path)
    path = study_file(ABLATION)
    function = _trainable(
        read_study(path, sets=["data={source: 'folder:images', train: 16, val: 8}", "proxy.classes=2", "cache=none"])
    )
    (tmp_path / "trial").mkdir()
    monkeypatch.chdir(tmp_path / "trial")
    function({"net": "small", "epochs": 2})
    assert [report["epoch"] for report in reports] == [1, 2]
    assert Path.cwd() == tmp_path / "trial"


def test_measured_constraints_are_refused(study_file: Callable[[str], Path]):
    path = study_file(SEARCH.replace("mparams: ..0.13", "ms_per_image: ..1000"))
    with pytest.raises(StudyError, match="ms_per_image is measured"):
        _trainable(path)


def test_a_walk_takes_the_nearest_network_within_the_constraints(study_file: Callable[[str], Path]):
    networks = resolve(read_study(study_file(SEARCH)))
    assert networks.space
    chooser = hiri_search.tune._WantedOptions
    assert networks.space.walk(chooser(WANTED))[0] == parse_net("hr(32 e=4)*2 -> t(64 e=6 d=64)")
    near, decisions = search_space(networks).walk(chooser(WANTED))
    assert near != networks.space.walk(chooser(WANTED))[0]
    assert search_space(networks).walk(chooser(WANTED)) == (near, decisions), "the same config is the same network"
    assert decisions["1.e"] == 4, "the first decision with a network within the constraints"


def test_repeated_walks_leave_the_wanted_network(study_file: Callable[[str], Path]):
    """As in a space that is too large to count the networks within its constraints."""
    networks = resolve(read_study(study_file(SEARCH)))
    assert networks.space
    chooser = hiri_search.tune._WantedOptions(WANTED)
    found = [networks.space.walk(chooser)[0] for _ in range(60)]
    assert found[0] == parse_net("hr(32 e=4)*2 -> t(64 e=6 d=64)")
    assert len(set(found[:10])) < len(set(found[-10:]))


# ---- Tuners


@pytest.mark.usefixtures("_one_ray")
def test_a_tuner_reaches_the_digits_of_the_study(study_file: Callable[[str], Path], tmp_path: Path):
    from ray import cloudpickle

    study = read_study(study_file(ABLATION))
    function = _trainable(study)
    assert len(cloudpickle.dumps(function)) < 10_000
    results = _fit(tmp_path, function, hiri_search.tune.param_space(study))
    assert not results.errors
    found = {(r.config["net"], r.config["seed"]): r.metrics_dataframe for r in results}
    expected = _run_serially(study, tmp_path / "serial")
    assert found.keys() == {(trial.network.name, trial.asked.seed) for trial in expected}
    for trial in expected:
        table = found[trial.network.name, trial.asked.seed]
        serial = [[getattr(epoch, name) for name in DIGITS] for epoch in trial.curve]
        assert [[getattr(epoch, name) for name in DIGITS] for epoch in _epochs(table)] == serial
        assert table["training_iteration"].tolist() == [1, 2, 3]
        costs = [trial.network.spec, trial.network.params, trial.network.macs]
        assert _rows(table, ["spec", "params", "macs"]) == [costs] * 3


@pytest.mark.slow
@pytest.mark.usefixtures("_one_ray")
def test_a_searcher_with_two_objectives_gets_the_costs(study_file: Callable[[str], Path], tmp_path: Path):
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    study = read_study(study_file(SEARCH))
    space = hiri_search.tune.param_space(study) | {"lr": tune.loguniform(1e-3, 1e-2), "side": tune.choice([48])}
    searcher = OptunaSearch(metric=["top1", "macs"], mode=["max", "min"], seed=0)
    results = _fit(tmp_path, _trainable(study), space, num_samples=3, search_alg=searcher)
    assert not results.errors
    for result in results:
        assert result.metrics["params"] <= 130_000
        assert result.metrics["macs"] > 0
        assert result.metrics_dataframe["zero_cost_synflow"].nunique() == 1
        assert result.metrics_dataframe["epoch"].tolist() == [1, 2]


def _dies_after(epochs: int, flag: Path, function: Callable[[dict[str, Any]], None]) -> Callable[[Any], None]:
    """Return a trainable whose process dies once, while it trains the epoch after this one."""

    def dies_once(config: dict[str, Any]) -> None:
        from hiri_search import tune
        from hiri_search.training import loop

        original = loop._epoch

        def epoch(number: int, *arguments: Any) -> Epoch:
            if number == epochs + 1 and not flag.exists():
                flag.touch()
                os._exit(1)
            return original(number, *arguments)

        loop._epoch = epoch
        function(config)
        assert tune.tune.get_checkpoint(), "the trial began from its checkpoint"

    return dies_once


def _retried(function: Any, folder: Path) -> Any:
    """Return the results of a Tuner that starts a failed trial again."""
    return _fit(folder, function, LOST, max_failures=1)


def _restored(function: Any, folder: Path) -> Any:
    """Return the results of a Tuner that ended with a failed trial and was restored."""
    from ray import tune

    failed = _fit(folder, function, LOST)
    assert len(failed.errors) == 1
    assert failed[0].metrics["epoch"] == 2
    return tune.Tuner.restore(failed.experiment_path, function, resume_errored=True).fit()


@pytest.mark.usefixtures("_one_ray")
@pytest.mark.parametrize("again", [_retried, pytest.param(_restored, marks=pytest.mark.slow)])
def test_a_trial_whose_process_died_resumes_from_its_checkpoint(
    study_file: Callable[[str], Path], tmp_path: Path, again: Callable[[Any, Path], Any]
):
    study = read_study(study_file(ABLATION))
    (result,) = again(_dies_after(2, tmp_path / "died", _trainable(study)), tmp_path)
    assert not result.error
    assert (tmp_path / "died").exists()
    trials_by_seed = {(t.network.name, t.asked.seed): t for t in _run_serially(study, tmp_path / "serial")}
    unbroken = trials_by_seed[LOST["net"], LOST["seed"]]
    assert result.metrics_dataframe["loss"].tolist() == [epoch.loss for epoch in unbroken.curve]


@pytest.mark.usefixtures("_one_ray")
def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    page = ROOT / "docs" / "tune.md"
    (study,), (example,) = blocks(page, "yaml"), blocks(page, "python")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(study)
    names: dict[str, Any] = {}
    exec(compile(example, str(page), "exec"), names)
    assert len(names["results"]) == 8
    assert not names["results"].errors
    epochs = [result.metrics["epoch"] for result in names["results"]]
    assert max(epochs) == 4
    assert min(epochs) < 4, "ASHA stopped a trial"
    assert "top-1" in capsys.readouterr().out
