"""Images on a machine that did not prepare them."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from hiri_search.training.data.prepare import prepare
from hiri_search.training.inputs import ensure_local as ensure_local_module
from hiri_search.training.inputs.ensure_local import NodeMismatch, ensure_local
from hiri_search.training.job import DataSource, Job, PreparedData
from hiri_search.training.recipe import Recipe
from tests.system.damages import DAMAGES, cut

JOB = Job("hr(8 e=4)", 32, 2, 0, Recipe(epochs=1, batch=4, warmup_epochs=0), DataSource(train=8, val=4))


def _photos(folder: Path, *, seed: int = 0) -> Path:
    for split, count in (("train", 4), ("val", 2)):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                colour = (seed, 20 * number, 100 * (name == "a"))
                Image.new("RGB", (40, 40), colour).save(folder / split / name / f"{number}.png")
    return folder


def _prepared(job: Job, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, *, cache: str = "auto") -> PreparedData:
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(cache_dir))
    return prepare(job.data, job.side, cache_dir, classes=job.classes, cache=cache)


def _bytes(prepared: PreparedData) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in prepared.folder.iterdir()}


def _no_heartbeat() -> None:
    pass


def _fail(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.parametrize("kind", ["drawn", "folder"])
def test_another_machine_prepares_bitwise_the_same_images(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = "drawn" if kind == "drawn" else f"folder:{_photos(tmp_path / 'photos')}"
    job = replace(JOB, data=DataSource(source, train=6, val=4, test=2))
    on_driver = _prepared(job, tmp_path / "driver", monkeypatch)
    expected = _bytes(on_driver)
    assert on_driver.counts == {"train": 6, "val": 4, "test": 2}
    assert ensure_local(on_driver, job, _no_heartbeat, _fail) is on_driver
    (tmp_path / "driver").rename(tmp_path / "of another machine")
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "own"))
    local = ensure_local(on_driver, job, _no_heartbeat, _fail)
    assert local.folder.is_relative_to(tmp_path / "own")
    assert replace(local, folder=on_driver.folder) == on_driver
    assert _bytes(local) == expected
    assert ensure_local(on_driver, job, _no_heartbeat, _fail).folder == local.folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_images_that_are_damaged_while_trials_run_are_made_again(
    damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    on_driver = _prepared(JOB, tmp_path / "driver", monkeypatch)
    expected, said = _bytes(on_driver), []
    damage(on_driver.folder / "train_images.npy")
    assert ensure_local(on_driver, JOB, _no_heartbeat, said.append) == on_driver
    assert _bytes(on_driver) == expected
    (sentence,) = said
    assert f"the decoded images in {on_driver.folder} are damaged (train_images.npy " in sentence
    assert sentence.endswith("; they were made again")
    ensure_local(on_driver, JOB, _no_heartbeat, _fail)


def test_damaged_images_of_another_cache_are_prepared_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    on_driver = _prepared(JOB, tmp_path / "driver", monkeypatch)
    cut(on_driver.folder / "train_images.npy")
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "own"))
    for _ in range(2):  # no trial is lost for damage that it cannot repair
        assert ensure_local(on_driver, JOB, _no_heartbeat, _fail).folder.parent == tmp_path / "own"


def test_other_images_on_this_machine_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = replace(JOB, data=DataSource(f"folder:{_photos(tmp_path / 'photos')}"))
    on_driver = _prepared(job, tmp_path / "driver", monkeypatch)
    for folder in ("driver", "photos"):
        shutil.rmtree(tmp_path / folder)
    _photos(tmp_path / "photos", seed=1)
    with pytest.raises(NodeMismatch, match="holds other images"):
        ensure_local(on_driver, job, _no_heartbeat, _fail)


@pytest.mark.parametrize("cache", ["disk", "none"])
@pytest.mark.parametrize("kind", ["folder", "timm"])
def test_missing_data_is_a_fault_of_the_machine(kind: str, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = replace(JOB, data=DataSource(f"{kind}:{_photos(tmp_path / 'photos')}"))
    on_driver = _prepared(job, tmp_path / "driver", monkeypatch, cache=cache)
    shutil.rmtree(tmp_path / "photos")
    shutil.rmtree(tmp_path / "driver", ignore_errors=True)
    with pytest.raises(NodeMismatch, match=r"there is no .*photos"):
        ensure_local(on_driver, job, _no_heartbeat, _fail)


def test_unreadable_data_is_a_fault_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = replace(JOB, data=DataSource(f"folder:{_photos(tmp_path / 'photos')}"))
    on_driver = _prepared(job, tmp_path / "driver", monkeypatch)
    shutil.rmtree(tmp_path / "driver")
    (tmp_path / "photos" / "train" / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(NodeMismatch, match=r"0\.png"):
        ensure_local(on_driver, job, _no_heartbeat, _fail)


def test_heartbeats_continue_while_images_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    on_driver = _prepared(JOB, tmp_path / "driver", monkeypatch)
    shutil.rmtree(tmp_path / "driver")
    monkeypatch.setattr(ensure_local_module, "HEARTBEAT_SECONDS", 0.01)
    prepare_images = ensure_local_module.prepare_inputs

    def slow_prepare(*args: object, **keys: object) -> PreparedData:
        time.sleep(0.2)
        return prepare_images(*args, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(ensure_local_module, "prepare_inputs", slow_prepare)
    heartbeats: list[int] = []
    ensure_local(on_driver, JOB, lambda: heartbeats.append(1), _fail)
    assert heartbeats
