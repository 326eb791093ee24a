"""Images on a machine that did not prepare them."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from hiri_search.training.data import ensure_local as ensure_local_module
from hiri_search.training.data.ensure_local import NodeMismatch, ensure_local
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, Job, PreparedData
from hiri_search.training.recipe import Recipe

JOB = Job("hr(8 e=4)", 32, 2, 0, Recipe(epochs=1, batch=4, warmup_epochs=0), DataSource(train=8, val=4))


def _photos(folder: Path, *, seed: int = 0) -> Path:
    for split, count in (("train", 4), ("val", 2)):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                colour = (seed, 20 * number, 100 * (name == "a"))
                Image.new("RGB", (40, 40), colour).save(folder / split / name / f"{number}.png")
    return folder


def _prepared(job: Job, place: Path, monkeypatch: pytest.MonkeyPatch, *, cache: str = "auto") -> PreparedData:
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(place))
    return prepare(job.data, job.side, place, classes=job.classes, cache=cache)


def _bytes(prepared: PreparedData) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in prepared.folder.iterdir()}


def quiet() -> None:
    pass


@pytest.mark.parametrize("kind", ["drawn", "folder"])
def test_they_are_prepared_there_the_same_to_the_byte(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = "drawn" if kind == "drawn" else f"folder:{_photos(tmp_path / 'photos')}"
    job = replace(JOB, data=DataSource(source, train=8, val=4))
    there = _prepared(job, tmp_path / "driver's", monkeypatch)
    before = _bytes(there)
    assert ensure_local(there, job, quiet) is there
    (tmp_path / "driver's").rename(tmp_path / "of another machine")
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "own"))
    here = ensure_local(there, job, quiet)
    assert here.folder.is_relative_to(tmp_path / "own")
    assert replace(here, folder=there.folder) == there
    assert _bytes(here) == before
    assert ensure_local(there, job, quiet).folder == here.folder


def test_other_images_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = replace(JOB, data=DataSource(f"folder:{_photos(tmp_path / 'photos')}"))
    there = _prepared(job, tmp_path / "driver's", monkeypatch)
    for folder in ("driver's", "photos"):
        shutil.rmtree(tmp_path / folder)
    _photos(tmp_path / "photos", seed=1)
    with pytest.raises(NodeMismatch, match="holds other images"):
        ensure_local(there, job, quiet)


@pytest.mark.parametrize("cache", ["disk", "none"])
@pytest.mark.parametrize("kind", ["folder", "timm"])
def test_data_that_are_not_there_are_no_fault_of_the_trial(
    kind: str, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = replace(JOB, data=DataSource(f"{kind}:{_photos(tmp_path / 'photos')}"))
    there = _prepared(job, tmp_path / "driver's", monkeypatch, cache=cache)
    shutil.rmtree(tmp_path / "photos")
    shutil.rmtree(tmp_path / "driver's", ignore_errors=True)
    with pytest.raises(NodeMismatch, match=r"there is no .*photos"):
        ensure_local(there, job, quiet)


def test_what_cannot_be_read_there_is_none_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = replace(JOB, data=DataSource(f"folder:{_photos(tmp_path / 'photos')}"))
    there = _prepared(job, tmp_path / "driver's", monkeypatch)
    shutil.rmtree(tmp_path / "driver's")
    (tmp_path / "photos" / "train" / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(NodeMismatch, match=r"0\.png"):
        ensure_local(there, job, quiet)


def test_it_gives_signs_of_life_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    there = _prepared(JOB, tmp_path / "driver's", monkeypatch)
    shutil.rmtree(tmp_path / "driver's")
    monkeypatch.setattr(ensure_local_module, "HEARTBEAT_SECONDS", 0.01)
    make = ensure_local_module.prepare

    def slow(*given: object, **more: object) -> PreparedData:
        time.sleep(0.2)
        return make(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ensure_local_module, "prepare", slow)
    beats: list[int] = []
    ensure_local(there, JOB, lambda: beats.append(1))
    assert beats
