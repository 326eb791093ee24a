"""The decode cache: filled once and completely, or not at all, with several processes and with failures."""

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
from hiri_search.training.data import sources as sources_module
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
from hiri_search.training.data.sources import SyntheticSource
from hiri_search.training.data.synthetic import generate_images, generate_in_subprocess
from hiri_search.training.job import DataSource, PreparedData


def _say_nothing(text: str) -> None:
    pass


# ---- filled once


def test_one_of_several_threads_fills_the_folder_and_the_others_wait(tmp_path: Path):
    filled, messages = [], []

    def fill(folder: Path) -> None:
        filled.append(folder)
        time.sleep(0.2)
        (folder / "file").write_text("whole")

    def request(number: int) -> str:
        make_once(tmp_path / "cache" / "key", 1, fill, messages.append)
        return (tmp_path / "cache" / "key" / "file").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(request, range(4))) == ["whole"] * 4
    assert len(filled) == 1
    assert messages == ["another process is preparing the same images; waiting for it"] * 3


FILL_SCRIPT = """
import os, sys, time
from pathlib import Path
from hiri_search.training.data.decode_cache import make_once

def fill(folder):
    (folder / "file").write_text(str(os.getpid()))
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))

make_once(Path(sys.argv[1]), 1, fill, print)
"""


def _start_filling(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FILL_SCRIPT, folder, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_one_of_several_processes_fills_the_folder(tmp_path: Path):
    with _start_filling(tmp_path / "key", 0.3) as first, _start_filling(tmp_path / "key", 0.3) as second:
        outputs = [process.communicate()[0] for process in (first, second)]
    assert "".join(outputs).count("begun") == 1
    filler = (first, second)["begun" in outputs[1]]
    assert (tmp_path / "key/file").read_text() == str(filler.pid)


def test_a_killed_process_leaves_no_partly_filled_folder(tmp_path: Path):
    folder = tmp_path / "key"
    with _start_filling(folder, 60) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert not folder.exists()
    make_once(folder, 1, lambda unfinished: (unfinished / "new").touch(), _say_nothing)
    assert [path.name for path in folder.iterdir()] == ["new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_no_partly_filled_folder(tmp_path: Path, error: type[BaseException]):
    def fail(folder: Path) -> None:
        (folder / "file").touch()
        raise error

    with pytest.raises(error):
        make_once(tmp_path / "key", 1, fail, _say_nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


# ---- the disk


def test_a_disk_that_is_too_small_is_an_error_with_the_sizes(tmp_path: Path):
    with pytest.raises(DataError, match=r"need 1000000000\.00 GB and the disk of .* has [0-9.]+ GB free"):
        make_once(tmp_path / "cache" / "key", 10**18, lambda folder: None, _say_nothing)
    assert not (tmp_path / "cache").exists()


def test_a_disk_that_fills_up_during_the_preparation_is_an_error(tmp_path: Path):
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"need 0\.00 GB .* \(other programs filled it meanwhile\)"):
        make_once(tmp_path / "key", 1, fail, _say_nothing)


@pytest.mark.parametrize("count", [0, 1, 9, 10])
def test_a_streamed_array_may_have_fewer_images_than_announced(tmp_path: Path, count: int):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)
    assert write_array(tmp_path / "x.npy", iter(images), (10, 4, 4, 3)) == count
    assert np.array_equal(np.load(tmp_path / "x.npy"), images)


# ---- the cache folder


def test_the_cache_folder_is_the_users_unless_set_or_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "results"
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "set"))
    assert cache_folder(home) == tmp_path / "set"
    monkeypatch.delenv("HIRI_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(home) == tmp_path / "xdg/hiri_search/images"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder(home) == tmp_path / "me/.cache/hiri_search/images"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder(home) == home


def test_studies_share_prepared_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    data, messages = DataSource("drawn", train=8, val=4), []
    first, second = (prepare(data, 16, tmp_path / study, say=messages.append) for study in ("a", "b"))
    assert (first, len(messages)) == (second, 1)
    assert not (tmp_path / "a").exists()


DIFFERENT = [{"seed": 1}, {"train": 9}, {"val": 5}]


def test_each_setting_of_the_images_changes_their_folder(tmp_path: Path):
    def folder(side: int = 16, classes: int = 4, **keys: int) -> Path:
        return prepare(DataSource("drawn", **{"train": 8, "val": 4, **keys}), side, tmp_path, classes=classes).folder

    folders = [folder(), folder(side=32), folder(classes=5), *(folder(**keys) for keys in DIFFERENT)]
    assert len(set(folders)) == len(folders)
    assert folder() == folders[0]


def test_a_relative_path_in_another_folder_is_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prepared: list[PreparedData] = []
    for folder, colour in (("a", "red"), ("b", "tan")):  # files of equal size and time
        for file in ("train/x/0.bmp", "train/y/0.bmp", "val/x/0.bmp", "val/y/0.bmp"):
            path = tmp_path / folder / "images" / file
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), colour).save(path)
            os.utime(path, ns=(1, 1))
        monkeypatch.chdir(tmp_path / folder)
        prepared.append(prepare(DataSource("folder:images"), 16, tmp_path))
    assert prepared[0].folder != prepared[1].folder


# ---- cached fingerprints


STAT, CONTENT = "5e" * 32, "f0" * 32


def test_a_content_fingerprint_is_cached_under_its_stat_fingerprint(tmp_path: Path):
    assert cached_fingerprint(tmp_path, STAT, lambda: CONTENT) == CONTENT
    assert cached_fingerprint(tmp_path, STAT, _fail) == CONTENT
    similar = STAT[:-1] + "0"
    assert cached_fingerprint(tmp_path, similar, lambda: "new") == "new", "the same file name, but not its content"
    assert [path.name for path in (tmp_path / FINGERPRINTS).iterdir()] == [STAT[:16]]


def _fail() -> str:
    raise AssertionError


@pytest.mark.parametrize(
    "text", ["", STAT, f"{STAT} {CONTENT[:9]}\n", f"{STAT} {CONTENT}", f"{CONTENT} {CONTENT}\n", "\0\udcff"]
)
def test_a_damaged_cache_file_is_ignored_and_replaced(tmp_path: Path, text: str):
    (tmp_path / FINGERPRINTS).mkdir()
    (tmp_path / FINGERPRINTS / STAT[:16]).write_text(text, errors="surrogateescape")
    assert cached_fingerprint(tmp_path, STAT, lambda: CONTENT) == CONTENT
    assert cached_fingerprint(tmp_path, STAT, _fail) == CONTENT


def test_a_fingerprint_is_computed_if_the_cache_is_not_writable(tmp_path: Path):
    (tmp_path / FINGERPRINTS).touch()
    assert [cached_fingerprint(tmp_path, STAT, lambda: CONTENT) for _ in range(2)] == [CONTENT, CONTENT]


CACHE_SCRIPT = f"""
import sys
from pathlib import Path
from hiri_search.training.data.decode_cache import cached_fingerprint

print("ready", flush=True)
sys.stdin.readline()
for number in range(300):
    stat = f"{{number:016}}" + "5e" * 24
    assert cached_fingerprint(Path(sys.argv[1]), stat, lambda: "{CONTENT}") == "{CONTENT}"
"""


def test_processes_that_cache_the_same_fingerprints_do_not_disturb_each_other(tmp_path: Path):
    command = [sys.executable, "-c", CACHE_SCRIPT, str(tmp_path)]
    start = partial(subprocess.Popen, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with start() as first, start() as second:
        assert [process.stdout.readline() for process in (first, second)] == ["ready\n"] * 2
        for process in (first, second):
            process.stdin.write("go\n")
            process.stdin.flush()
    assert (first.returncode, second.returncode) == (0, 0)
    assert [file.read_text().split()[1] for file in (tmp_path / FINGERPRINTS).iterdir()] == [CONTENT] * 300


@pytest.mark.parametrize(
    ("data", "cache", "expected"),
    [
        (DataSource("drawn"), "ram", "cache: ram is not known; write auto, gpu, disk, none"),
        (DataSource("drawn", skip_corrupt=True), "none", r"data\.skip_corrupt: .* with cache: none leave it out"),
    ],
)
def test_unsupported_values_of_cache(data: DataSource, cache: str, expected: str, tmp_path: Path):
    with pytest.raises(DataError, match=expected):
        prepare(data, 16, tmp_path, cache=cache)


@pytest.mark.parametrize("cache", ["auto", "disk", "none"])
def test_other_caches_need_no_gpu(cache: str):
    check_gpus(cache, gpus=0)


def test_a_gpu_cache_is_refused_without_gpus():
    check_gpus("gpu", gpus=1)
    with pytest.raises(DataError, match="cache: gpu needs a CUDA device, and there is none; write auto or disk"):
        check_gpus("gpu", gpus=0)


# ---- parallel work


def test_images_of_a_subprocess_are_the_same():
    images, labels = generate_images(9, classes=4, side=20, seed=3)
    from_subprocess, their_labels = generate_in_subprocess(5, classes=4, side=20, seed=3, first=4)
    assert np.array_equal(images[4:], from_subprocess)
    assert np.array_equal(labels[4:], their_labels)


def test_images_of_several_subprocesses_come_in_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources_module, "SYNTHETIC_CHUNK", 4)
    count = 11
    source = SyntheticSource(DataSource("drawn", train=count), 4)
    images, labels = generate_images(count, classes=4, side=16, seed=0)
    labelled = list(source.images("train", 16))
    assert np.array_equal(np.stack([image for image, _ in labelled]), images)
    assert [label for _, label in labelled] == labels.tolist()


def test_prefetched_results_come_in_order_and_only_a_few_are_pending():
    started: list[int] = []

    def work(item: int) -> int:
        time.sleep(0.01 * (item % 3))
        return item

    def items():
        for item in range(20):
            started.append(item)
            yield item

    for count, result in enumerate(prefetch(work, items(), threads=4, results=6)):
        assert result == count
        assert len(started) <= count + 7
    assert count == 19


def test_prefetching_raises_an_exception_in_place_of_the_failed_result():
    results = prefetch(lambda item: 1 // item, [2, 1, 0, 1], threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_progress_is_reported_at_intervals(monkeypatch: pytest.MonkeyPatch):
    messages: list[str] = []
    progress = Progress(1000, messages.append, every=10)
    times = iter(range(int(progress.started) + 1, 10**9))
    monkeypatch.setattr("time.monotonic", lambda: float(next(times)))
    for _ in range(1000):
        progress.step()
    assert 90 <= len(messages) <= 100
    assert all("of 1,000 images prepared, about" in text for text in messages)
