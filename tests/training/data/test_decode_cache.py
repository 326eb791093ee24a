"""Decoded images are made once, whole or not at all, however many processes want them and whatever stops them."""

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hiri_search.system.concurrency import prefetch
from hiri_search.training.data.decode_cache import (
    FINGERPRINTS,
    Progress,
    cache_folder,
    cached_fingerprint,
    make_once,
    write_array,
)
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.pixel_stores import check_gpus
from hiri_search.training.data.prepare import prepare
from hiri_search.training.data.sources import DRAWN_CHUNK, SyntheticSource
from hiri_search.training.data.synthetic import draw, draw_beside
from hiri_search.training.job import DataSource, PreparedData


def _quiet(text: str) -> None:
    """Says nothing."""


# ---- made once


def test_of_several_that_want_it_at_once_one_makes_it_and_the_others_wait(tmp_path: Path):
    made, said = [], []

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.2)
        (folder / "file").write_text("whole")

    def want(number: int) -> str:
        make_once(tmp_path / "place" / "key", 1, make, said.append)
        return (tmp_path / "place" / "key" / "file").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(want, range(4))) == ["whole"] * 4
    assert len(made) == 1
    assert said == ["another process is preparing the same images; waiting for it"] * 3


MAKE = """
import os, sys, time
from pathlib import Path
from hiri_search.training.data.decode_cache import make_once

def make(folder):
    (folder / "file").write_text(str(os.getpid()))
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))

make_once(Path(sys.argv[1]), 1, make, print)
"""


def _start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", MAKE, folder, str(seconds)], stdout=subprocess.PIPE, text=True)


def test_processes_wait_for_each_other(tmp_path: Path):
    with _start(tmp_path / "key", 0.3) as one, _start(tmp_path / "key", 0.3) as other:
        said = [process.communicate()[0] for process in (one, other)]
    assert "".join(said).count("begun") == 1
    maker = (one, other)["begun" in said[1]]
    assert (tmp_path / "key/file").read_text() == str(maker.pid)


def test_a_process_that_is_killed_leaves_nothing_half_done(tmp_path: Path):
    folder = tmp_path / "key"
    with _start(folder, 60) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert not folder.exists()
    make_once(folder, 1, lambda inside: (inside / "other").touch(), _quiet)
    assert [path.name for path in folder.iterdir()] == ["other"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_either(tmp_path: Path, error: type[BaseException]):
    def fail(folder: Path) -> None:
        (folder / "file").touch()
        raise error

    with pytest.raises(error):
        make_once(tmp_path / "key", 1, fail, _quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


# ---- the disk


def test_a_disk_that_is_too_small_is_said_with_the_sizes(tmp_path: Path):
    with pytest.raises(DataError, match=r"need 1000000000\.00 GB and the disk of .* has [0-9.]+ GB free"):
        make_once(tmp_path / "place" / "key", 10**18, lambda folder: None, _quiet)
    assert not (tmp_path / "place").exists()


def test_a_disk_that_others_fill_meanwhile(tmp_path: Path):
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"need 0\.00 GB .* \(others took it meanwhile\)"):
        make_once(tmp_path / "key", 1, fail, _quiet)


@pytest.mark.parametrize("count", [0, 1, 9, 10])
def test_an_array_is_written_as_it_comes_and_may_end_early(tmp_path: Path, count: int):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)
    assert write_array(tmp_path / "x.npy", iter(images), (10, 4, 4, 3)) == count
    assert np.array_equal(np.load(tmp_path / "x.npy"), images)


# ---- the place


def test_the_place_is_the_users_unless_it_is_said_or_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "results"
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "said"))
    assert cache_folder(home) == tmp_path / "said"
    monkeypatch.delenv("HIRI_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(home) == tmp_path / "xdg/hiri_search/images"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder(home) == tmp_path / "me/.cache/hiri_search/images"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder(home) == home


def test_studies_share_what_one_of_them_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "place"))
    data, said = DataSource("drawn", train=8, val=4), []
    one, other = (prepare(data, 16, tmp_path / study, say=said.append) for study in ("a", "b"))
    assert (one, len(said)) == (other, 1)
    assert not (tmp_path / "a").exists()


DIFFERENT = [{"seed": 1}, {"train": 9}, {"val": 5}]


def test_what_decides_the_images_names_their_folder(tmp_path: Path):
    def folder(side: int = 16, classes: int = 4, **keys: int) -> Path:
        return prepare(DataSource("drawn", **{"train": 8, "val": 4, **keys}), side, tmp_path, classes=classes).folder

    folders = [folder(), folder(side=32), folder(classes=5), *(folder(**keys) for keys in DIFFERENT)]
    assert len(set(folders)) == len(folders)
    assert folder() == folders[0]


def test_the_same_relative_path_of_another_place_is_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found: list[PreparedData] = []
    for place, colour in (("a", "red"), ("b", "tan")):  # of one size and time
        for file in ("train/x/0.bmp", "train/y/0.bmp", "val/x/0.bmp", "val/y/0.bmp"):
            path = tmp_path / place / "images" / file
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), colour).save(path)
            os.utime(path, ns=(1, 1))
        monkeypatch.chdir(tmp_path / place)
        found.append(prepare(DataSource("folder:images"), 16, tmp_path))
    assert found[0].folder != found[1].folder


# ---- remembered


SEEN, FOUND = "5e" * 32, "f0" * 32


def test_what_was_found_is_remembered_for_what_was_seen(tmp_path: Path):
    assert cached_fingerprint(tmp_path, SEEN, lambda: FOUND) == FOUND
    assert cached_fingerprint(tmp_path, SEEN, _never) == FOUND
    assert cached_fingerprint(tmp_path, SEEN[:-1] + "0", lambda: "other") == "other", (
        "the same file, and another answer in it"
    )
    assert [path.name for path in (tmp_path / FINGERPRINTS).iterdir()] == [SEEN[:16]]


def _never() -> str:
    raise AssertionError


@pytest.mark.parametrize(
    "text", ["", SEEN, f"{SEEN} {FOUND[:9]}\n", f"{SEEN} {FOUND}", f"{FOUND} {FOUND}\n", "\0\udcff"]
)
def test_a_broken_memory_is_none_and_is_mended(tmp_path: Path, text: str):
    (tmp_path / FINGERPRINTS).mkdir()
    (tmp_path / FINGERPRINTS / SEEN[:16]).write_text(text, errors="surrogateescape")
    assert cached_fingerprint(tmp_path, SEEN, lambda: FOUND) == FOUND
    assert cached_fingerprint(tmp_path, SEEN, _never) == FOUND


def test_where_nothing_can_be_written_nothing_is_remembered(tmp_path: Path):
    (tmp_path / FINGERPRINTS).touch()
    assert [cached_fingerprint(tmp_path, SEEN, lambda: FOUND) for _ in range(2)] == [FOUND, FOUND]


REMEMBER = f"""
import sys
from pathlib import Path
from hiri_search.training.data.decode_cache import cached_fingerprint

print("ready", flush=True)
sys.stdin.readline()
for number in range(300):
    assert remembered(Path(sys.argv[1]), f"{{number:016}}" + "5e" * 24, lambda: "{FOUND}") == "{FOUND}"
"""


def test_processes_that_remember_the_same_do_not_disturb_each_other(tmp_path: Path):
    command = [sys.executable, "-c", REMEMBER, str(tmp_path)]
    start = partial(subprocess.Popen, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with start() as one, start() as other:
        assert [process.stdout.readline() for process in (one, other)] == ["ready\n"] * 2
        for process in (one, other):
            process.stdin.write("go\n")
            process.stdin.flush()
    assert (one.returncode, other.returncode) == (0, 0)
    assert [file.read_text().split()[1] for file in (tmp_path / FINGERPRINTS).iterdir()] == [FOUND] * 300


@pytest.mark.parametrize(
    ("data", "cache", "wanted"),
    [
        (DataSource("drawn"), "ram", "cache: ram is not known; write auto, gpu, disk, none"),
        (DataSource("drawn", skip_corrupt=True), "none", r"data\.skip_corrupt: .* with cache: none leave it out"),
    ],
)
def test_caches_that_cannot_be(data: DataSource, cache: str, wanted: str, tmp_path: Path):
    with pytest.raises(DataError, match=wanted):
        prepare(data, 16, tmp_path, cache=cache)


@pytest.mark.parametrize("cache", ["auto", "disk", "none"])
def test_other_caches_need_no_gpu(cache: str):
    check_gpus(cache, gpus=0)


def test_a_cache_on_gpus_is_refused_where_there_are_none():
    check_gpus("gpu", gpus=1)
    with pytest.raises(DataError, match="cache: gpu wants a CUDA device, and there is none; write auto or disk"):
        check_gpus("gpu", gpus=0)


# ---- side by side


def test_images_drawn_beside_are_the_same(tmp_path: Path):
    one, labels = draw(9, classes=4, side=20, seed=3)
    other, names = draw_beside(5, classes=4, side=20, seed=3, first=4)
    assert np.array_equal(one[4:], other)
    assert np.array_equal(labels[4:], names)


def test_many_drawn_images_come_in_order():
    count = DRAWN_CHUNK + 3
    drawn = SyntheticSource(DataSource("drawn", train=count), 4)
    images, labels = draw(count, classes=4, side=16, seed=0)
    made = list(drawn.images("train", 16))
    assert np.array_equal(np.stack([image for image, _ in made]), images)
    assert [label for _, label in made] == labels.tolist()


def test_work_ahead_comes_in_order_and_not_all_at_once():
    begun: list[int] = []

    def work(item: int) -> int:
        time.sleep(0.01 * (item % 3))
        return item

    def items():
        for item in range(20):
            begun.append(item)
            yield item

    for count, result in enumerate(prefetch(work, items(), threads=4, results=6)):
        assert result == count
        assert len(begun) <= count + 7
    assert count == 19


def test_work_ahead_tells_of_its_failures_in_their_turn():
    results = prefetch(lambda item: 1 // item, [2, 1, 0, 1], threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_progress_is_said_now_and_then(monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    progress = Progress(1000, said.append, every=10)
    moments = iter(range(int(progress.began) + 1, 10**9))
    monkeypatch.setattr("time.monotonic", lambda: float(next(moments)))
    for _ in range(1000):
        progress.step()
    assert 90 <= len(said) <= 100
    assert all("of 1,000 images prepared, about" in text for text in said)
