"""Several processes for a trial: which studies may have them, and the resources of such trials."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from torch.utils.data import IterableDataset

from hiri_search.api.running import Runner
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.errors import StudyError
from hiri_search.system import hardware
from hiri_search.training.data.sources import timm_datasets

NETS = "nets: {one: hr(32 e=4)}\nproxy: {side: 32}\nrecipe: {batch: 24}\n"


def _read(folder: Path, text: str, *sets: str) -> StudyConfig:
    (folder / "study.yaml").write_text(text)
    return read_study(folder / "study.yaml", sets=sets)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("resources.gpu=1.5",), "gpu=1.5 is not possible; write a whole number, or less than 1"),
        (("resources={gpu: 4, processes: 2}",), "processes=2 does not fit gpu=4: each process has a GPU of its own"),
        (("resources={gpu: 0.5, processes: 2}",), "processes=2 does not fit gpu=0.5"),
        (("resources={gpu: auto, processes: 2}",), "processes=2 does not fit gpu=auto"),
        (("resources.processes=0",), "resources.processes"),
    ],
)
def test_processes_and_gpus_that_do_not_fit_are_refused(sets: tuple[str, ...], message: str, tmp_path: Path):
    with pytest.raises(StudyError, match=message):
        _read(tmp_path, NETS, *sets)


@pytest.mark.parametrize(
    ("sets", "runner", "message"),
    [
        (("resources.processes=5",), Runner(), r"^recipe.batch=24 is not possible with 5 .*write a multiple of 10$"),
        (("recipe.cuda_graphs=true", "recipe.compile=true"), Runner(), "^recipe.cuda_graphs is not possible with 2 "),
        (("task=detection", "nets.one=retinanet:hr(32 e=4) -> hr(64 e=4)"), Runner(), "are trained by one process"),
        ((), Runner(serial=True), "^--serial trains in one process, and each trial takes 2"),
    ],
)
def test_what_processes_cannot_share_is_refused_before_a_training(
    sets: tuple[str, ...], runner: Runner, message: str, tmp_path: Path
):
    study = _read(tmp_path, NETS, "resources.processes=2", *sets)
    with pytest.raises(StudyError, match=message):
        runner.check(study)


class Stream(IterableDataset[int]):
    """A dataset that is read in its own order."""

    def __iter__(self) -> Iterator[int]:
        return iter(())


@pytest.mark.parametrize(("name", "shared"), [("tfds/mine", False), ("wds/mine", True), ("hfids/me/mine", True)])
def test_a_stream_that_processes_cannot_share_is_refused(
    name: str, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(timm_datasets, "open_timm", lambda data, split: Stream())  # its readers are optional
    study = _read(tmp_path, NETS, "resources.processes=2", f"data.source=timm:{name}@/images")
    message = rf"^data.source: timm:{name}@/images is a stream, which 2 processes cannot share; write timm:wds/NAME@FOL"
    with nullcontext() if shared else pytest.raises(StudyError, match=message):
        Runner().check(study)


@pytest.mark.parametrize(
    ("sets", "gpus", "resources"),
    [
        ("{gpu: 4}", 8, TrialResources(2, 4.0, cpus=8.0, processes=4)),
        ("{gpu: 4}", 0, TrialResources(16, 0.0, cpus=1.0)),
        ("{processes: 2}", 8, TrialResources(4, 2.0, cpus=4.0, processes=2)),
        ("{processes: 2}", 0, TrialResources(8, 0.0, cpus=2.0, processes=2)),
        ("{processes: 2, cpu: 8}", 0, TrialResources(2, 0.0, cpus=8.0, processes=2)),
        ("{}", 8, TrialResources(8, 1.0, cpus=2.0)),
    ],
)
def test_a_trial_has_a_process_for_each_gpu(
    sets: str, gpus: int, resources: TrialResources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hardware, "gpus", lambda: gpus)
    monkeypatch.setattr(hardware, "cores", lambda: 16)
    assert Runner().resources(_read(tmp_path, NETS, f"resources={sets}")) == resources


def test_trials_side_by_side_share_each_gpu_in_equal_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ray gives a trial a share of one GPU: three trials with two thirds of a GPU do not fit on two GPUs."""
    monkeypatch.setattr(hardware, "gpus", lambda: 2)
    shares = {slots: Runner(slots).resources(_read(tmp_path, NETS)).gpus for slots in (1, 2, 3, 4, 5)}
    assert shares == {1: 1.0, 2: 1.0, 3: 0.5, 4: 0.5, 5: pytest.approx(1 / 3)}


def test_more_gpus_than_the_machine_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hardware, "gpus", lambda: 2)
    with pytest.raises(StudyError, match=r"^resources: a trial takes 4 GPUs, and this machine has 2; "):
        Runner().check(_read(tmp_path, NETS, "resources.gpu=4"))
