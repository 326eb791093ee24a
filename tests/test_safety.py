"""Untrusted input runs no code, writes only to its own folders and has size limits; no port is open to others."""

import ast
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hiri_search
from hiri_search.language import SpecError, parse, parse_network
from hiri_search.networks import build_timm
from hiri_search.study.config.files.yaml_file import parse_yaml
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.persistence.checkpoints import checked_digest
from hiri_search.system.file_tree import archives, tree
from hiri_search.training.data.image_decode import encoded_images
from hiri_search.training.data.image_folder import DataError, open_image_folder
from hiri_search.training.data.pixel_stores import MmapStore
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, Job, PreparedData
from hiri_search.training.loop import train
from hiri_search.training.recipe import Recipe
from hiri_search.training.state import TrainingError
from tests.calls import at_most_calls
from tests.study.records import new_trial

ROOT = Path(hiri_search.__file__).parent
JOB = Job("hr(8 e=4)", 32, 4, 0, Recipe(epochs=1, batch=16, warmup_epochs=0), DataSource(train=16, val=16))


class Malicious:
    """An object whose unpickling creates the folder `trace`."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.trace),)


# ---- source code


def _calls() -> Iterator[tuple[str, ast.Call, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node, f"{path.relative_to(ROOT)}:{node.lineno}"


def _keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), None)


FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads"),
    *("marshal.loads", "shelve.open", "joblib.load"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load", "torch.jit.load"),
    *("shutil.unpack_archive", "pd.read_pickle", "pandas.read_pickle"),
}
# Reads from a folder that the parent process has just created and that other users cannot access.
TRUSTED = {("pickle.loads", "training/probe.py"), ("cloudpickle.loads", "study/dispatch/tune_dispatcher.py")}


def test_no_code_executes_what_it_reads():
    for name, call, where in _calls():
        assert name not in FORBIDDEN or (name, where.partition(":")[0]) in TRUSTED, where
        assert not name.endswith((".extractall", ".extract")), f"{where}: archives must be read, not unpacked"
        assert _keyword(call, "shell") in (None, "False"), where
        assert _keyword(call, "allow_pickle") in (None, "False"), where
        assert _keyword(call, "trust_remote_code") in (None, "False"), where


def test_torch_load_loads_only_weights():
    loads = [(call, where) for name, call, where in _calls() if name == "torch.load"]
    # partial(torch.load, ...) has torch.load as an argument.
    partials = [(call, where) for name, call, where in _calls() if name == "partial"]
    loads += [(call, where) for call, where in partials if ast.unparse(call.args[0]) == "torch.load"]
    assert loads
    for call, where in loads:
        assert _keyword(call, "weights_only") == "True", where


def test_torch_load_and_pickle_are_not_imported_under_other_names():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
            assert not {"marshal", "shelve", "dill", "cloudpickle", "joblib"} & set(modules), path
            assert "pickle" not in modules or names == {"UnpicklingError"} or path.name == "probe.py", path
            assert "torch" not in modules or "load" not in names, path


# ---- untrusted results folders


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    cache = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIRI_SEARCH_CACHE", str(cache))
        return prepare(JOB.data, JOB.side, cache, classes=4)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [None, 0, 4])
def test_a_checkpoint_with_code_is_set_aside(tmp_path: Path, prepared: PreparedData, protocol: int | None):
    content = {"model": Malicious(tmp_path / "trace"), "curve": []}
    if protocol is None:
        torch.save(content, tmp_path / "last.pt")
    else:
        (tmp_path / "last.pt").write_bytes(pickle.dumps(content, protocol))
    clean = train(JOB, prepared, tmp_path / "clean" / "last.pt")
    assert train(JOB, prepared, tmp_path / "last.pt")[0].loss == clean[0].loss
    assert (tmp_path / "last.unreadable").exists()
    assert not (tmp_path / "trace").exists()


FOREIGN_CHECKPOINTS = [
    {},
    [],
    {"curve": [{"no": "epoch"}]},
    {"curve": [], "model": {}, "optimizer": {}, "model_ema": None, "parts": 1},
    {"curve": 3, "model": 4},
    torch.zeros(3),
]


@pytest.mark.parametrize("content", FOREIGN_CHECKPOINTS, ids=range(len(FOREIGN_CHECKPOINTS)))
def test_a_foreign_checkpoint_is_set_aside(tmp_path: Path, prepared: PreparedData, content: object):
    torch.save(content, tmp_path / "last.pt")
    assert len(train(JOB, prepared, tmp_path / "last.pt")) == 1
    assert (tmp_path / "last.unreadable").exists()


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_checkpoint_that_was_cut_is_set_aside_at_once(tmp_path: Path, prepared: PreparedData, share: float):
    train(JOB, prepared, tmp_path / "last.pt")
    content = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(content[: int(share * len(content))])
    begun = time.monotonic()
    assert len(train(JOB, prepared, tmp_path / "last.pt")) == 1
    assert time.monotonic() - begun < 60  # it would be retried for 90 s, as if the disk were unreachable
    assert (tmp_path / "last.unreadable").exists()


def test_weights_with_code_are_refused(tmp_path: Path, prepared: PreparedData):
    torch.save({"model": Malicious(tmp_path / "trace")}, tmp_path / "weights.pt")
    job = replace(JOB, recipe=replace(JOB.recipe, weights=str(tmp_path / "weights.pt")))
    with pytest.raises(TrainingError, match="holds objects whose code would be run"):
        train(job, prepared, tmp_path / "run" / "last.pt")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("malicious_file", ["train_images", "train_labels"])
def test_decoded_images_with_code_are_refused(tmp_path: Path, malicious_file: str):
    for name in ("train_images", "train_labels"):
        array = np.zeros(1, np.uint8)
        if name == malicious_file:
            array = np.array([Malicious(tmp_path / "trace")], dtype=object)
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=r"allow_pickle|Python objects"):
        MmapStore(PreparedData(tmp_path, ("a", "b"), 1, 1), "train", torch.device("cpu"))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["../last.pt", "checkpoints/../last.pt", "a b/last.pt", "last.pt"])
def test_a_ledger_cannot_name_a_path_outside_its_folder(tmp_path: Path, name: str):
    trial = new_trial()
    trial.asked = replace(trial.asked, checkpoint=name)
    with pytest.raises(StudyError, match="restore the ledger"):
        checked_digest(tmp_path, trial)


# ---- archives


def _image() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


GOOD = [f"{split}/{name}/1.png" for split in ("train", "val") for name in "ab"]


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name in GOOD:
            _add(tar, tarfile.TarInfo(name), _image())
        for info, content in members:
            _add(tar, info, content)
    return path


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, content: bytes) -> None:
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _special_member(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


OUTSIDE = [
    (tarfile.TarInfo("../escaped.png"), b"x"),
    (tarfile.TarInfo("train/a/../../../escaped.png"), b"x"),
    (tarfile.TarInfo("train/../escaped/1.png"), b"x"),
    (tarfile.TarInfo("/tmp/hiri_search_escaped.png"), b"x"),
    _special_member("train/a/link.png", tarfile.SYMTYPE, "/etc/hostname"),
    _special_member("train/a/hard.png", tarfile.LNKTYPE, "/etc/hostname"),
    _special_member("train/a/device.png", tarfile.CHRTYPE),
    _special_member("train/a/disk.png", tarfile.BLKTYPE),
    _special_member("train/a/pipe.png", tarfile.FIFOTYPE),
    _special_member("train/link", tarfile.SYMTYPE, "/"),
]


def _tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("member", OUTSIDE, ids=[member[0].name + str(member[0].type) for member in OUTSIDE])
def test_a_tar_writes_only_to_the_cache_and_its_links_and_devices_are_not_read(
    tmp_path: Path, member: tuple[tarfile.TarInfo, bytes], monkeypatch: pytest.MonkeyPatch
):
    path, cache = _tar(tmp_path / "set.tar", member), tmp_path / "cache"
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    before = _tree(tmp_path)
    prepared = prepare(DataSource(f"folder:{path}"), 32, tmp_path, batch=1)
    assert (prepared.train, prepared.val, prepared.classes) == (2, 2, ("a", "b"))
    assert all(cache in (path, *path.parents) for path in _tree(tmp_path) - before)
    assert not Path("/tmp/hiri_search_escaped.png").exists()


@pytest.mark.parametrize("name", ["../escaped.png", "/escaped.png", "train/a/../../../escaped.png", "C:\\x.png"])
def test_a_zip_writes_only_to_the_cache(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for member in (*GOOD, name):
            archive.writestr(member, _image())
    before = _tree(tmp_path)
    prepare(DataSource(f"folder:{tmp_path / 'set.zip'}"), 32, tmp_path, batch=1)
    assert all(tmp_path / "cache" in (path, *path.parents) for path in _tree(tmp_path) - before)


def _read_all(path: Path) -> dict[str, bytes | str]:
    folder = open_image_folder(path)
    return {entry.name: data for entry, data in encoded_images(folder, folder.entries["train"])}


@pytest.mark.parametrize("kind", ["tar", "zip", "folder"])
def test_an_oversized_image_is_not_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    for opened in (tree.FolderTree, archives._TarTree, archives._ZipTree):
        monkeypatch.setattr(opened.open_reader.__wrapped__, "__defaults__", (1 << 16,))
    content, name = bytes(1 << 20), "train/a/2.png"
    path = tmp_path / f"set.{kind}"
    if kind == "tar":
        _tar(path, (tarfile.TarInfo(name), content), mode="w:gz")
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in (*GOOD, name):
                archive.writestr(member, content if member == name else _image())
    else:
        for member in (*GOOD, name):
            (path / member).parent.mkdir(parents=True, exist_ok=True)
            (path / member).write_bytes(content if member == name else _image())
    images = _read_all(path)
    assert "are more than the" in str(images[name])
    assert isinstance(images[GOOD[0]], bytes)


def test_a_zip_with_a_false_size_gives_no_more_bytes_than_that_size(tmp_path: Path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in (*GOOD, "train/a/2.png"):
            archive.writestr(member, bytes(1 << 20) if member == "train/a/2.png" else _image())
    forged = path.read_bytes().replace(struct.pack("<L", 1 << 20), struct.pack("<L", 100))
    path.write_bytes(forged)
    assert len(_read_all(path)["train/a/2.png"]) < 1000


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_tar_with_an_oversized_header_is_refused(tmp_path: Path, kind: bytes):
    info = tarfile.TarInfo("header")
    info.type = kind
    path = _tar(tmp_path / "set.tar.gz", (info, bytes(archives.MAX_HEADER_BYTES + 1)), mode="w:gz")
    with pytest.raises(DataError, match="are more than the"):
        open_image_folder(path)


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # an 8 x 8 image has more than twice as many
    with pytest.raises(DataError, match="decompression bomb"):
        prepare(DataSource(f"folder:{_tar(tmp_path / 'set.tar')}"), 32, tmp_path, batch=1)


# ---- YAML, specs and names


@pytest.mark.parametrize(
    "text",
    [
        "title: !!python/object/apply:os.mkdir [trace]",
        "title: !!python/name:os.system",
        "title: !!python/object/new:os.mkdir [trace]",
        "title: !include /etc/hostname",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "a: &a {b: *a}",
        "a: " + "[" * 5000,
        f"title: !!int {'9' * 10_000}",
    ],
    ids=["apply", "name", "new", "include", "aliases", "self-reference", "deep", "digits"],
)
def test_yaml_runs_no_code_and_is_parsed_in_few_steps(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError), at_most_calls(1_000_000):
        parse_yaml(text, tmp_path / "study.yaml", dict)
    assert not (tmp_path / "trace").exists()


SPECS = {
    "import": "__import__('os')",
    "call": "hr(32 e=__import__('os').getpid())",
    "open": "hr(" * 5000,
    "torn": "hr(32)*1..",
    "deep": "(" * 500 + "hr(32)" + ")" * 500,
    "digits": f"hr(32 e=4)*{'9' * 5000}",
    "many": "hr(1..999999999999/1 e=4)",
}


@pytest.mark.parametrize("text", SPECS.values(), ids=SPECS)
def test_specs_run_no_code_and_are_parsed_in_few_steps(text: str):
    with pytest.raises(SpecError), at_most_calls(1_000_000):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "timm:resnet18 pretrained=true",
        "timm:resnet18 checkpoint_path=/tmp/x.pt",
        "timm:resnet18 pretrained_cfg=resnet18.a1_in1k",
        "timm:resnet18 pretrained_cfg_overlay=x",
        "timm:resnet18 cache_dir=/tmp",
        "timm:hf-hub:somebody/something",
        "timm:hf_hub:somebody/something",
        "timm:local-dir:/tmp/x",
        "timm:local_dir:/tmp/x",
        "timm:timm/resnet18",
        "timm:resnet18.a1_in1k",
        "timm:../resnet18",
        "hf-hub:somebody/something",
    ],
)
def test_timm_networks_load_nothing(text: str, monkeypatch: pytest.MonkeyPatch):
    def connect(*args: object, **kwargs: object) -> None:
        raise AssertionError("a network connection is opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(SpecError):
        build_timm(parse_network(text), 64)


NAMES = ["../x", "/tmp/x", "a/b", "..", "", " ", "\x00", "a\nb", "=1+1", "<script>", "x" * 300]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names_of_rows_and_studies_do_not_become_paths(name: str, tmp_path: Path):
    from hiri_search.study.config.networks import resolve

    study = StudyConfig.model_validate(
        {"title": name, "table": name, "nets": {name: "hr(32 e=4)"}, "proxy": {"side": 64}}
    )
    (row,) = resolve(study).rows
    assert row.trained
    digest = Job(str(row.trained), 64, None, 0, study.recipe, study.data).digest
    assert set(digest) <= set("0123456789abcdef")


def test_a_space_file_of_a_study_runs_no_code(tmp_path: Path):
    (tmp_path / "space.yaml").write_text("space: !!python/object/apply:os.mkdir [trace]")
    (tmp_path / "study.yaml").write_text("space: space.yaml")
    with pytest.raises(StudyError, match="tag"):
        read_study(tmp_path / "study.yaml")


# ---- listening sockets


def _listening(inodes: set[str]) -> set[str]:
    """Return the addresses, as in /proc/net, on which the sockets with these inode numbers listen."""
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in inodes:
                addresses.add(local.partition(":")[0])
    return addresses


def _process_tree(pid: int) -> set[int]:
    """Return the ids of a process and of all its descendants."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    tree = {pid}
    while children := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= children
    return tree


def _sockets(pids: set[int]) -> set[str]:
    """Return the inode numbers of the sockets that these processes have open."""
    inodes = set()
    for pid in pids:
        with suppress(OSError):
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
            inodes |= {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:")}
    return inodes


RUN = """
from tests.study.dispatch import fake_work
from tests.study.dispatch.test_ray_dispatcher import _run
from pathlib import Path
_run(Path({home!r}), fake_work.slow_steps)
"""
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.mark.waits
def test_a_local_run_listens_only_on_loopback(tmp_path: Path):
    code = RUN.format(home=str(tmp_path))
    root = str(Path(__file__).parents[1])
    addresses: set[str] = set()
    processes = 0
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], env=os.environ | {"PYTHONPATH": root}) as run:
        while run.poll() is None:
            pids = _process_tree(run.pid)
            processes = max(processes, len(pids))
            addresses |= _listening(_sockets(pids))
            time.sleep(0.2)
    assert run.returncode == 0
    assert processes > 4
    assert addresses
    assert addresses <= LOOPBACK
