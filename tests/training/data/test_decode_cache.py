"""The decode cache: filled once and completely, or not at all, with several processes and with failures."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hiri_search.system.checksums import CHECKSUMS
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
from hiri_search.training.data.sources import synthetic_source as sources_module
from hiri_search.training.data.sources.synthetic_source import SyntheticSource
from hiri_search.training.data.synthetic import generate_images, generate_in_subprocess
from hiri_search.training.job import DataSource, PreparedData
from tests.system.damages import DAMAGES, cut


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
    assert {path.name for path in folder.iterdir()} == {"new", CHECKSUMS}


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


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.EIO])
def test_a_folder_that_cannot_be_made_is_an_error_with_the_reason(tmp_path: Path, error: int):
    def fail(folder: Path) -> None:
        raise OSError(error, os.strerror(error), str(folder))

    reason = f"cannot be kept in {tmp_path}: .*{os.strerror(error)}.*; HIRI_SEARCH_CACHE may name another folder"
    with pytest.raises(DataError, match=reason):
        make_once(tmp_path / "key", 1, fail, _say_nothing)


@pytest.mark.parametrize("count", [0, 1, 9, 10])
def test_a_streamed_array_may_have_fewer_images_than_announced(tmp_path: Path, count: int):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)
    assert write_array(tmp_path / "x.npy", iter(images), (10, 4, 4, 3)) == count
    assert np.array_equal(np.load(tmp_path / "x.npy"), images)


# ---- damage


FILES = ("train_images.npy", "train_labels.npy", "val_images.npy", "val_labels.npy", "about.json", CHECKSUMS)
SMALL = DataSource("drawn", train=8, val=4)


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the images of SMALL."""
    return _prepare_in(tmp_path_factory.mktemp("decoded"))[0].folder.parent


def _prepare_in(cache: Path) -> tuple[PreparedData, list[str]]:
    """Prepare SMALL in a cache; return what is said, too."""
    messages: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIRI_SEARCH_CACHE", str(cache))
        return prepare(SMALL, 16, cache, say=messages.append), messages


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_said_in_one_sentence_and_made_again(
    file: str, damage: Callable[[Path], None], decoded: Path, tmp_path: Path
):
    shutil.copytree(decoded, tmp_path / "cache")
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    whole = _content(folder)
    damage(folder / file)
    prepared, messages = _prepare_in(tmp_path / "cache")
    lost = file == CHECKSUMS and damage is Path.unlink
    problem = "have no checksums" if lost else rf"are damaged \({re.escape(file)} .*\)"
    assert re.fullmatch(f"the decoded images in {folder} {problem}; they are made again", messages[0]), messages
    assert (prepared.folder, _content(folder), len(messages)) == (folder, whole, 2)
    assert _prepare_in(tmp_path / "cache")[1] == []


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nothing"), Path.mkdir])
def test_whatever_has_the_name_of_the_folder_is_replaced(make: Callable[[Path], None], decoded: Path, tmp_path: Path):
    (name,) = (path.name for path in decoded.iterdir() if path.is_dir())
    make(tmp_path / name)
    (tmp_path / f"{name}.unfinished").touch()
    prepared, messages = _prepare_in(tmp_path)
    assert _content(prepared.folder) == _content(decoded / name)
    assert messages[0].endswith("have no checksums; they are made again")


def test_the_images_are_on_disk_before_they_have_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps: list[str] = []
    rename, fsync = Path.rename, os.fsync
    monkeypatch.setattr(Path, "rename", lambda path, target: (steps.append("rename"), rename(path, target)))
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    make_once(tmp_path / "key", 1, lambda folder: (folder / "file").touch(), _say_nothing)
    before, after = steps[: steps.index("rename")], steps[steps.index("rename") + 1 :]
    unfinished = tmp_path / "key.unfinished"
    assert {*before} == {str(unfinished / "file"), str(unfinished / CHECKSUMS), str(unfinished)}
    assert (before[-1], after) == (str(unfinished), [str(tmp_path)])


def test_of_several_processes_one_makes_damaged_images_again(decoded: Path, tmp_path: Path):
    shutil.copytree(decoded, tmp_path / "cache")
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    whole = _content(folder)
    cut(folder / "train_images.npy")
    with ThreadPoolExecutor(4) as pool:
        said = [text for _, messages in pool.map(_prepare_in, [folder.parent] * 4) for text in messages]
    assert sum("made again" in text for text in said) == 1
    assert _content(folder) == whole


# ---- the cache folder


def test_the_cache_folder_is_the_users_unless_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "set"))
    assert cache_folder(tmp_path / "results") == tmp_path / "set"
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"HIRI_SEARCH_CACHE=.*/file cannot be used: it is not a folder; name"):
        cache_folder(tmp_path / "results")
    monkeypatch.delenv("HIRI_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(tmp_path / "results") == tmp_path / "xdg/hiri_search/images"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder(tmp_path / "results") == tmp_path / "results"


def test_where_images_are_prepared_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    messages: list[str] = []
    (tmp_path / "file").touch()
    monkeypatch.delenv("HIRI_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        prepare(SMALL, 16, tmp_path / "results", say=messages.append)
    assert messages == [f"preparing the images of drawn for side 16, in {tmp_path / 'results'}"]


@pytest.mark.parametrize("source", ["drawn", "folder", "timm"])
def test_images_that_are_not_stored_need_no_cache(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "file"))
    for file in ("train/x/0.png", "train/y/0.png", "val/x/0.png", "val/y/0.png"):
        (tmp_path / "images" / file).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / file)
    data = SMALL if source == "drawn" else DataSource(f"{source}:{tmp_path / 'images'}")
    assert prepare(data, 16, tmp_path / "results", cache="none").train
    assert not (tmp_path / "results").exists()


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


def test_an_unknown_value_of_cache_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="cache: ram is not known; write auto, gpu, disk, none"):
        prepare(DataSource(), 16, tmp_path, cache="ram")


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
    assert all(re.match(r"\d+ of 1,000 images prepared", text) for text in messages)


@pytest.mark.parametrize(("total", "first"), [(20, 1), (1900, 95), (100_000, 1000)])
def test_the_time_left_is_estimated_once_enough_images_are_finished(
    total: int, first: int, monkeypatch: pytest.MonkeyPatch
):
    messages: list[str] = []
    progress = Progress(total, messages.append, every=0)
    start = progress.started
    monkeypatch.setattr("time.monotonic", lambda: start + 7 + progress.count)  # the first image takes 8 s
    for _ in range(first + 1):
        progress.step()
    assert all("left" not in text for text in messages[: first - 1])
    assert messages[first - 1].endswith(f"about {(7 + first) / first * (total - first):,.0f} s left")
