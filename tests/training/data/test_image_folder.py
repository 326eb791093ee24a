"""Files of an image folder or archive: each is trained on, or counted and named; each class keeps its images."""

import gzip
import os
import pickle
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hiri_search.system.file_tree import archives
from hiri_search.training.data.image_files import image_suffixes
from hiri_search.training.data.image_folder import DataError, left_out, open_image_folder
from hiri_search.training.data.loader import open_loader
from hiri_search.training.data.prepare import fingerprint, prepare
from hiri_search.training.data.sources.folder_source import FolderSource
from hiri_search.training.data.splits import stratified_sample
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.recipe import Recipe

SIDE = 16
COUNTS = {"train": 3, "val": 2}


@pytest.fixture(autouse=True)
def cache_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))


def _image(file: Path, number: int = 0, **keys: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 18), (40 * number % 256, 90, 255 - number)).save(file, **keys)


def _images(root: Path, counts: dict[str, int] = COUNTS, classes: str = "ab", suffix: str = ".png") -> Path:
    for split, count in counts.items():
        for number in range(count):
            for label, name in enumerate(classes):
                _image(root / split / name / f"{number}{suffix}", number + 10 * label)
    return root


def _names(root: Path) -> list[str]:
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())


def _prepared(path: Path, *, classes: int | None = None, cache: str = "auto", **keys: object) -> PreparedData:
    kind = keys.pop("kind", "folder")
    return prepare(DataSource(f"{kind}:{path}", **keys), SIDE, path.parent, classes=classes, cache=cache)


# ---- archives are like folders


def _tar(root: Path, path: Path, names: Iterable[str], mode: str = "w", prefix: str = "") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name in names:
            tar.add(root / name, f"{prefix}{name}")
    return path


def _zip(
    root: Path, path: Path, method: int = zipfile.ZIP_STORED, *, separator: str = "/", prefix: str = "", system: int = 3
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in _names(root):
            info = zipfile.ZipInfo("x")
            info.filename = prefix + name.replace("/", separator)  # as .NET writes it
            info.create_system = system
            archive.writestr(info, (root / name).read_bytes(), method)
    return path


def _with_an_old_member(root: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        old = tarfile.TarInfo("./train/a/0.png")
        old.size = 3
        tar.addfile(old, BytesIO(b"old"))
        for name in _names(root):
            tar.add(root / name, name)
    return path


def _linked(root: Path, path: Path, kind: str) -> Path:
    """A tar in which one image, or the folder of a class, lies elsewhere and is linked to."""
    with tarfile.open(path, "w") as tar:
        moved = "a" if kind == "folder" else "a/0.png"
        for name in _names(root):
            tar.add(root / name, name.replace(f"train/{moved}", f"store/{moved}", 1))
        link = tarfile.TarInfo(f"train/{moved}")
        link.type = tarfile.LNKTYPE if kind == "hard" else tarfile.SYMTYPE
        link.linkname = {"hard": "", "soft": "../../", "folder": "../"}[kind] + f"store/{moved}"
        tar.addfile(link)
    return path


def _linked_zip(root: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in _names(root):
            archive.write(root / name, name.replace("train/a/", "store/", 1))
        link = zipfile.ZipInfo("train/a")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "../store")
    return path


def _with_a_zip_at_the_end(root: Path, path: Path) -> Path:
    inner = _zip(root, path.with_suffix(".inner"))
    with tarfile.open(_tar(root, path, _names(root)), "a") as tar:
        tar.add(inner, "other.zip")
    return path


def _linked_folder(root: Path, path: Path) -> Path:
    for name in ("train/a", "val/b/0.png"):
        target = path.with_name(name.replace("/", "_"))
        (root / name).rename(target)
        (root / name).symlink_to(target)
    (root / "train/a/again").symlink_to(root / "train")  # a folder in itself
    return root


PACKED: dict[str, Callable[[Path, Path], Path]] = {
    **{f"tar, {kind}": lambda r, p, k=kind: _tar(r, p, _names(r), f"w:{k}") for kind in ("", "gz", "bz2", "xz")},
    "tar, other order": lambda r, p: _tar(r, p, reversed(_names(r))),
    "tar.gz, mixed order": lambda r, p: _tar(r, p, sorted(_names(r), key=lambda name: name[::-1]), "w:gz"),
    "tar, ./": lambda r, p: _tar(r, p, _names(r), prefix="./"),
    "tar, absolute": lambda r, p: _tar(r, p, _names(r), prefix="/"),
    "tar, one folder deeper": lambda r, p: _tar(r, p, _names(r), prefix="./top/"),
    "tar, many folders deeper": lambda r, p: _tar(r, p, _names(r), prefix="/home/me/My images/"),
    "tar, folders": lambda r, p: _tar(r, p, ["."]),
    "tar, a member twice": _with_an_old_member,
    "tar, a zip at the end": _with_a_zip_at_the_end,
    **{f"tar, {kind} link": lambda r, p, k=kind: _linked(r, p, k) for kind in ("hard", "soft", "folder")},
    "zip": _zip,
    "zip, packed": lambda r, p: _zip(r, p, zipfile.ZIP_DEFLATED),
    "zip, backslashes": lambda r, p: _zip(r, p, separator="\\"),
    "zip, both kinds of slashes": lambda r, p: _zip(r, p, separator="\\", prefix="top/", system=0),
    "zip, link": _linked_zip,
    "folder, links": _linked_folder,
    "folder, Train and VAL": lambda r, p: [(r / "train").rename(r / "Train"), (r / "val").rename(r / "VAL"), r][-1],
    "folder, validation": lambda r, p: [(r / "val").rename(r / "validation"), r][-1],
    "folder, a folder x.png": lambda r, p: [(r / "train/a/x.png").mkdir(), r][-1],
    "folder, deeper": lambda r, p: [
        (r / "train/b/2").mkdir(),
        (r / "train/b/2.png").rename(r / "train/b/2/x.PNG"),
        r,
    ][-1],
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_the_same_images_have_the_same_fingerprint_however_packed(pack: Callable[[Path, Path], Path], tmp_path: Path):
    images = _images(tmp_path / "images")
    plain = _prepared(shutil.copytree(images, tmp_path / "plain"))
    packed = pack(images, tmp_path / "packed")
    assert replace(_prepared(packed), notes=()) == plain
    source = FolderSource(DataSource(f"folder:{packed}"), None)
    copy = pickle.loads(pickle.dumps(source))  # in a worker process that is not forked
    assert np.array_equal(copy.image("train", 4, 8)[0], source.image("train", 4, 8)[0])


def test_a_compressed_tar_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = _tar(_images(tmp_path / "images"), tmp_path / "x.tar.gz", reversed(_names(tmp_path / "images")), "w:gz")
    whole, unpacked, read = len(gzip.decompress(path.read_bytes())), [], gzip.GzipFile.read

    def counted(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        data = read(file, size)
        unpacked.append(len(data))
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    _prepared(path)
    prepared = _prepared(path, kind="timm")
    for _ in range(2):  # trials of one process
        _epoch(DataSource(f"timm:{path}"), prepared)
    assert whole <= sum(unpacked) < whole + 4 * tarfile.BLOCKSIZE, "all of it, and before that its first header"
    archives.forget_archive()
    assert not [link for link in Path("/proc/self/fd").iterdir() if str(tmp_path) in os.path.realpath(link)]


def test_an_archive_that_has_changed_is_opened_again(tmp_path: Path):
    root, path = _images(tmp_path / "images"), tmp_path / "x.tar.gz"
    for count in (3, 4):
        _image(root / f"train/a/{count}.png", count)
        _tar(root, path, _names(root), "w:gz")
        assert len(open_image_folder(path).entries["train"]) == count + 4


def test_a_compressed_tar_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = _tar(_images(tmp_path / "images"), tmp_path / "x.tar.gz", _names(tmp_path / "images"), "w:gz")
    monkeypatch.setattr(archives, "FREE_DISK_SHARE", 0.0)
    with pytest.raises(
        DataError, match=r"x\.tar\.gz .*unpacked it takes more than the 0\.00 GB that the disk has free"
    ):
        open_image_folder(path)


UNREADABLE_ZIPS = {
    "encrypted": (lambda data: _with_flags(data, 1), "its files are encrypted: unpack it, and name the folder"),
    "a name that is no UTF-8": (
        lambda data: _with_flags(data, 1 << 11).replace(b"train/a/0", b"train/\xff/0"),
        "'utf-8' codec can't decode",
    ),
}


def _with_flags(data: bytes, flags: int) -> bytes:
    """A zip with the same flags in each of its headers."""
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        parts = data.split(signature)
        kept = [part[: offset - 4] + flags.to_bytes(2, "little") + part[offset - 2 :] for part in parts[1:]]
        data = signature.join([parts[0], *kept])
    return data


@pytest.mark.parametrize(("change", "reason"), UNREADABLE_ZIPS.values(), ids=UNREADABLE_ZIPS)
def test_a_zip_that_cannot_be_read_is_refused(change: Callable[[bytes], bytes], reason: str, tmp_path: Path):
    path = _zip(_images(tmp_path / "images"), tmp_path / "x.zip")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=reason):
        open_image_folder(path)


# ---- nothing is passed over

SUFFIXES = (
    *(".jpg", ".JPG", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm", ".pgm"),
    *(".jp2", ".tga", ".ico", ".pcx", ".dib", ".apng", ".mpo"),
)


@pytest.mark.parametrize("kind", ["folder", "timm"])
def test_every_suffix_that_pillow_opens_is_trained_on(kind: str, tmp_path: Path):
    root = _images(tmp_path / "images")
    for suffix in SUFFIXES:
        if suffix.lower() in image_suffixes():
            formats = {".jfif": "JPEG", ".apng": "PNG"}
            _image(root / f"train/b/x{suffix}", format=formats.get(suffix))
    prepared = _prepared(root, kind=kind)
    assert (prepared.train, prepared.notes) == (6 + len(SUFFIXES), ())


@pytest.mark.parametrize("name", ["torch/image_folder", "torch/folder", "anything"])
def test_a_folder_is_not_read_by_the_rules_of_timm(name: str, tmp_path: Path):
    root = _images(tmp_path / "images")
    with pytest.raises(DataError, match=f"write timm:{root}, or folder:{root}"):
        prepare(DataSource(f"timm:{name}@{root}"), SIDE, tmp_path)


def test_formats_that_pillow_does_not_decode_itself_are_no_images():
    assert image_suffixes().isdisjoint({".eps", ".ps", ".mpg", ".h5", ".wmf", ".emf", ".grib", ".pdf", ".heic"})


LEFT_OUT: dict[str, tuple[list[str], str]] = {
    "another type": (["train/a/x.txt"], r"1 file was left out: 1 \.txt \(train/a/x\.txt\)\."),
    "no type": (["val/b/deeper/x"], r"1 without suffix \(val/b/deeper/x\)"),
    "hidden": (["train/a/._0.png", "train/.cache/x.png"], r"2 files were left out: 2 hidden"),
    "of Windows": (["train/a/Thumbs.db", "val/a/Thumbs.db"], r"2 \.db \(train/a/Thumbs\.db, val/a/Thumbs\.db\)"),
    "of macOS": (["__MACOSX/train/a/._0.png"], r"1 in __MACOSX"),
    "no class": (["train/x.png"], r"1 in no class folder"),
    "many": ([f"train/a/{n}.txt" for n in range(5)], r"5 files were left out: 5 \.txt \(train/a/0.*2\.txt, \.\.\.\)\."),
    "another split": (["valid/a/x.png", "valid/b/x.png"], r"^valid/ was left out \(files: 2\)\.$"),
    "not UTF-8": ([os.fsdecode(b"train/a/caf\xe9.txt")], r"1 \.txt \(train/a/caf\\udce9\.txt\)"),
}


@pytest.mark.parametrize("kind", ["folder", "timm", "tar"])
@pytest.mark.parametrize(("names", "note"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_files_that_are_not_trained_on_are_counted_and_named(names: list[str], note: str, kind: str, tmp_path: Path):
    root = _images(tmp_path / "images")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    if kind == "tar":
        root = _tar(root, tmp_path / "x.tar", ["."])
    prepared = _prepared(root, kind=kind.replace("tar", "folder"))
    assert (prepared.train, prepared.val) == (6, 4)
    (sentence,) = left_out(prepared.notes, prepared.skipped)
    assert re.search(note, sentence)


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("target", ["nowhere.png", "/dev/null", "x.png"])
def test_links_to_no_file_are_named(target: str, kind: str, tmp_path: Path):
    root = _images(tmp_path / "images")
    (root / "train/a/x.png").symlink_to(target)
    if kind == "tar":
        root = _tar(root, tmp_path / "x.tar", ["."])
    (sentence,) = _prepared(root).notes
    assert sentence.startswith("1 file was left out: 1 without content (links that lead to no file, devices)")


def test_a_class_of_files_that_pillow_does_not_open_is_named(tmp_path: Path):
    root = _images(tmp_path / "images")
    for file in (root / "val/b").iterdir():
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"class 'b' has no image in val/ \(2 \.heic left out\); add some or remove"):
        open_image_folder(root)


def test_classes_that_differ_in_case_are_named(tmp_path: Path):
    root = _images(tmp_path / "images")
    (root / "val/b").rename(root / "val/B")
    with pytest.raises(DataError, match=r"class 'B' has no image in train/ \(but 'b' has\); add some or remove"):
        open_image_folder(root)
    (root / "val/B").rename(root / "val/e\u0301")  # as macOS may write it
    (root / "train/b").rename(root / "train/\u00e9")
    with pytest.raises(DataError, match=r"class 'e\u0301' has no image in train/ \(but '\\xe9' has\)"):
        open_image_folder(root)


@pytest.mark.parametrize(("name", "refused"), [("train/a", True), ("train/a/deeper", True), ("lost+found", False)])
def test_a_folder_that_cannot_be_opened_is_refused_if_it_belongs_to_the_images(
    name: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = _images(tmp_path / "images")
    (root / name).mkdir(exist_ok=True)
    scandir = os.scandir

    def forbidding(folder: str) -> object:
        if str(folder) == os.path.realpath(root / name):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", forbidding)
    if refused:
        with pytest.raises(DataError, match=f"images cannot be read .*Permission denied.*{name}"):
            open_image_folder(root)
    else:
        assert len(open_image_folder(root).entries["train"]) == 6


# ---- no class is thinned out


@pytest.mark.parametrize("sizes", [(10, 10), (100, *[10] * 19), (1, 1, 50), (3, 3, 3, 2), (200, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_subset_has_images_of_each_class_in_proportion(sizes: tuple[int, ...], seed: int):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    for count in range(len(sizes), len(labels) + 1):
        chosen = stratified_sample(labels, count, seed=seed)
        assert chosen == sorted(set(chosen))
        assert len(chosen) == count
        found = np.bincount([labels[index] for index in chosen], minlength=len(sizes))
        assert found.min() >= 1
        share = count / len(labels)
        assert all(n <= max(1, share * size + 1) for n, size in zip(found, sizes, strict=True))


def test_one_class_is_too_few(tmp_path: Path):
    with pytest.raises(DataError, match=r"images of 1 class\(es\) in train/ \(a\); a training needs 2 or more"):
        open_image_folder(_images(tmp_path / "images"), classes=1)


@pytest.mark.parametrize("source", ["folder", "timm"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_subset_smaller_than_the_classes_is_refused(split: str, source: str, tmp_path: Path):
    root = _images(tmp_path / "images", classes="abc")
    data = DataSource(f"{source}:{root}", **{split: 2})
    with pytest.raises(DataError, match=rf"data\.{split}=2 is fewer than the 3 classes.*write 3 or more, or fewer"):
        prepare(data, SIDE, tmp_path, classes=3)


def test_synthetic_images_of_some_classes_are_said(tmp_path: Path):
    note = "The 4 val images are of 4 of the 8 classes: data.val is too small."
    assert prepare(DataSource(train=8, val=4), SIDE, tmp_path).notes == (note,)
    assert prepare(DataSource(train=8, val=4), SIDE, tmp_path, classes=4).notes == ()


UNREADABLE = [("folder", "auto"), ("folder", "none"), ("timm", "auto")]


@pytest.mark.parametrize(("kind", "cache"), UNREADABLE)
def test_a_class_without_readable_images_is_refused(kind: str, cache: str, tmp_path: Path):
    root = _images(tmp_path / "images")
    for file in (root / "val/b").iterdir():
        file.write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"class 'b' has no readable image in val/; repair some \(val/b/0\.png is one\)"
    ):
        _prepared(root, kind=kind, cache=cache, skip_corrupt=True)


@pytest.mark.parametrize(("kind", "cache"), UNREADABLE)
def test_the_advice_on_an_unreadable_image_works_with_every_cache(kind: str, cache: str, tmp_path: Path):
    root = _images(tmp_path / "images")
    (root / "train/a/1.png").write_bytes(b"x")
    refused = DataSource(f"{kind}:{root}")
    with pytest.raises(DataError, match=r"train/a/1\.png cannot be read .* set data\.skip_corrupt=true to leave such"):
        _epoch(refused, prepare(refused, SIDE, tmp_path, cache=cache))
    data = DataSource(f"{kind}:{root}", skip_corrupt=True)
    prepared = prepare(data, SIDE, tmp_path, cache=cache)
    assert (prepared.train, prepared.val, prepared.skipped) == (5, 4, ("train/a/1.png",))
    assert list(left_out(prepared.notes, prepared.skipped)) == ["Unreadable images left out: 1 (train/a/1.png)."]
    assert len(_epoch(data, prepared)) == 4
    assert fingerprint(data, SIDE, classes=None, cache=cache) == prepared.folder.name


def _epoch(data: DataSource, prepared: PreparedData) -> list[int]:
    """The labels of the images of one epoch."""
    loader = open_loader(data, prepared, side=SIDE, recipe=Recipe(batch=2), device=torch.device("cpu"))
    return [label for _, labels in loader.train(torch.Generator(), torch.Generator()) for label in labels.tolist()]


# ---- other names of the splits, and none


HELD_OUT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no val": (lambda root: shutil.rmtree(root / "val"), r"There is no val/: 20% of the images of each class.*seed=0"),
    "no splits": (
        lambda root: (
            [(root / "train" / name).rename(root / name) for name in "ab"]
            and [shutil.rmtree(root / split) for split in COUNTS]
        ),
        r"There is no train/ and val/: 20% of the images of each class, chosen with data\.seed=0, were held out",
    ),
}


@pytest.mark.parametrize(("change", "note"), HELD_OUT.values(), ids=HELD_OUT)
@pytest.mark.parametrize("deeper", [False, True])
def test_a_share_of_each_class_is_held_out(change: Callable[[Path], object], note: str, deeper: bool, tmp_path: Path):
    root = _images(tmp_path / "images/top" if deeper else tmp_path / "images", {"train": 10, "val": 1})
    change(root)
    prepared = _prepared(tmp_path / "images")
    assert (prepared.classes, prepared.train, prepared.val) == (("a", "b"), 16, 4)
    assert re.search(note.replace("no val/", "no top/val/") if deeper else note, prepared.notes[0])
    folder, again, reseeded = (open_image_folder(tmp_path / "images", seed=seed).entries for seed in (0, 0, 1))
    assert folder == again
    assert folder != reseeded
    assert not {entry.name for entry in folder["train"]} & {entry.name for entry in folder["val"]}
    one_class_more = _images(root / "train" if (root / "train").exists() else root, {"c": 10}, classes=" ")
    assert open_image_folder(tmp_path / "images", classes=2).entries == folder, one_class_more


def test_a_folder_of_images_without_classes_is_no_validation_set(tmp_path: Path):
    root = _images(tmp_path / "images", {"train": 10})
    _image(root / "test/1.png")
    prepared = _prepared(root)
    assert (prepared.train, prepared.val) == (16, 4)
    assert prepared.notes[0] == "test/ was left out (files: 1)."
    assert prepared.notes[1].startswith("There is no val/: 20%")


def test_a_split_of_another_name_is_left_out_and_named(tmp_path: Path):
    root = _images(tmp_path / "images", {"train": 10, "val": 2, "dev": 3})
    (root / "annotations").mkdir()
    assert _prepared(root).notes == ("dev/ was left out (files: 6).",)


@pytest.mark.parametrize("name", ["valid", "validation", "Valid"])
def test_other_names_of_the_validation_folder_are_taken_and_said(name: str, tmp_path: Path):
    root = _images(tmp_path / "images")
    (root / "val").rename(root / name)
    prepared = _prepared(root)
    assert (prepared.train, prepared.val) == (6, 4)
    assert prepared.notes == (f"The val images are those of {name}/.",)


WITHOUT_VAL = [
    ({"train": 1}, r"has no val/, and class 'a' has one image, of which none can be held out"),
    ({"valid": 3}, r"has no train/ with a folder for each class"),
    ({"pictures": 3}, "of 1 class"),
    ({}, r"has no train/ with a folder for each class"),
]


@pytest.mark.parametrize(("counts", "expected"), WITHOUT_VAL)
def test_folders_from_which_nothing_can_be_held_out(counts: dict[str, int], expected: str, tmp_path: Path):
    (tmp_path / "images").mkdir()
    root = _images(tmp_path / "images", counts, classes="a" if "pictures" in counts else "ab")
    with pytest.raises(DataError, match=expected):
        open_image_folder(root)
