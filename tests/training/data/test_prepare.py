"""The user's images, from a folder, an archive or timm: decoded once, cached, and refused with a clear message."""

import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from hiri_search.training.data.datasets import check_augmentation, open_split
from hiri_search.training.data.decode_cache import FINGERPRINTS
from hiri_search.training.data.image_decode import (
    _decode_with_pillow,
    _jpeg_decoder,
    _without_exif,
    center_square,
    decode_images,
)
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.prepare import prepare
from hiri_search.training.data.sources import folder_source, timm_datasets
from hiri_search.training.data.sources.folder_source import FolderSource
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.recipe import Recipe
from tests.training.data.decoded import decoded

SIDE = 16
STORED = 20  # side of the stored images: a quarter more than SIDE
CLASSES = ("ant", "bee", "cow")
COUNTS = {"train": 4, "val": 2}
TINY = Path(__file__).parents[3].parent / "shared" / "data" / "tiny.tar"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An image folder: 4 training and 2 validation images of each of three classes, none of them square."""
    root = tmp_path / "images"
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (24 + number, 31, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def _prepare(
    path: Path, home: Path, *, classes: int | None = None, kind: str = "folder", **keys: object
) -> PreparedData:
    data = DataSource(f"{kind}:{path}", **keys)  # type: ignore[arg-type]
    return _prepare_in(home, data, classes=classes)


def _prepare_in(cache_dir: Path, data: DataSource, **keys: object) -> PreparedData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIRI_SEARCH_CACHE", str(cache_dir))
        return prepare(data, SIDE, cache_dir, **keys)  # type: ignore[arg-type]


def _arrays(prepared: PreparedData) -> dict[str, np.ndarray]:
    return {file.stem: np.load(file) for file in sorted(prepared.folder.glob("*.npy"))}


def _tar(root: Path, path: Path, prefix: str) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(root, prefix)
    return path


def _zip(root: Path, path: Path, prefix: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, Path(prefix) / file.relative_to(root))
    return path


def _move_deeper(root: Path, path: Path, prefix: str) -> Path:
    path.mkdir()
    root.rename(path / prefix)
    return path


# ---- folders and archives


def test_a_folder_is_decoded_in_order(images: Path, tmp_path: Path):
    prepared = _prepare(images, tmp_path / "home")
    arrays = _arrays(prepared)
    assert (prepared.classes, prepared.train, prepared.val, prepared.skipped) == (CLASSES, 12, 6, ())
    assert (arrays["train_images"].shape, arrays["train_images"].dtype) == ((12, STORED, STORED, 3), np.uint8)
    assert arrays["train_labels"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    with Image.open(images / "val/bee/1.png") as image:
        assert np.array_equal(arrays["val_images"][3], np.asarray(center_square(image, side=STORED)))


PACKED: dict[str, tuple[Callable[[Path, Path, str], Path], str, str]] = {
    "tar": (_tar, "x.tar", "."),
    "tar without a dot": (_tar, "x.tar", ""),
    "tar, one level deeper": (_tar, "x.tar", "top"),
    "zip": (_zip, "x.zip", ""),
    "zip, one level deeper": (_zip, "x.zip", "top"),
    "folder, one level deeper": (_move_deeper, "x", "top"),
}


@pytest.mark.parametrize(("pack", "name", "prefix"), PACKED.values(), ids=PACKED)
def test_folder_and_archives_give_the_same_arrays(pack, name: str, prefix: str, images: Path, tmp_path: Path):
    plain = _prepare(images, tmp_path / "a")
    packed = _prepare(pack(images, tmp_path / name, prefix), tmp_path / "b")
    assert (packed.classes, packed.folder.name) == (plain.classes, plain.folder.name)
    for plain_array, packed_array in zip(_arrays(plain).values(), _arrays(packed).values(), strict=True):
        assert np.array_equal(plain_array, packed_array)


def test_only_the_first_classes_are_taken(images: Path, tmp_path: Path):
    prepared = _prepare(images, tmp_path / "home", classes=2)
    assert (prepared.classes, prepared.train, prepared.val) == (CLASSES[:2], 8, 4)
    assert set(_arrays(prepared)["train_labels"]) == {0, 1}


def test_a_subset_is_sampled_with_the_seed(images: Path, tmp_path: Path):
    whole, subset, repeated, reseeded = (
        _arrays(_prepare(images, tmp_path / home, **keys))["train_images"]
        for home, keys in (("a", {}), ("a", {"train": 5}), ("b", {"train": 5}), ("a", {"train": 5, "seed": 1}))
    )
    assert len(subset) == len(reseeded) == 5
    assert np.array_equal(subset, repeated)
    assert not np.array_equal(subset, reseeded)
    assert all(any(np.array_equal(image, candidate) for candidate in whole) for image in subset)


def test_a_count_above_the_number_of_images_takes_all(images: Path, tmp_path: Path):
    assert _prepare(images, tmp_path / "home", train=99).train == 12


@pytest.mark.parametrize("size", [(1, 900), (900, 1), (20, 20), (3, 3)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_center_square_is_rgb_for_every_size_and_mode(size: tuple[int, int], mode: str):
    image = center_square(Image.new(mode, size), side=STORED)
    assert (image.size, image.mode) == ((STORED, STORED), "RGB")


def test_a_real_archive_is_prepared(tmp_path: Path):
    if not TINY.exists():
        pytest.skip(f"{TINY} does not exist")
    prepared = _prepare(TINY, tmp_path)
    assert (prepared.classes, prepared.train, prepared.val) == (("hat", "pants", "shoes", "t-shirt"), 48, 24)
    assert _arrays(prepared)["train_images"].std() > 10


@pytest.mark.parametrize("size", [(60, 45), (45, 60), (81, 79), (20, 90), (400, 300)])
def test_the_fast_jpeg_path_gives_nearly_pillows_pixels(size: tuple[int, int], tmp_path: Path):
    row, column = np.mgrid[: size[1], : size[0]]
    pixels = np.stack([128 + 100 * np.sin(row / 9), 128 + 100 * np.cos(column / 7), row + column & 255], -1)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "x.jpg", quality=95)
    data = (tmp_path / "x.jpg").read_bytes()
    with Image.open(tmp_path / "x.jpg") as image:
        difference = np.abs(decoded(data, STORED).astype(int) - np.asarray(center_square(image, side=STORED)))
    assert difference.mean() < 3, "the crop may be shifted by half a pixel"


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\xff"])
def test_a_jpeg_with_damaged_exif_is_decoded(exif: bytes, tmp_path: Path):
    Image.new("RGB", (30, 30), (200, 100, 50)).save(tmp_path / "x.jpg", exif=exif)
    assert decoded((tmp_path / "x.jpg").read_bytes(), STORED).std(axis=(0, 1)).max() < 2


def test_torchcodec_decodes_the_same_pixels_as_pillow(tmp_path: Path):
    pytest.importorskip("torchcodec")
    Image.effect_noise((61, 47), 50).convert("RGB").save(tmp_path / "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    assert _jpeg_decoder() is not _decode_with_pillow
    assert torch.equal(_jpeg_decoder()(data), _decode_with_pillow(data))


EXIF = b"\xff\xe1\0\x08Exif\0\0"
SCAN = b"\xff\xda\0\x04..\xff\xe1\0\x03x"  # entropy-coded data follows, in which a marker has no meaning


@pytest.mark.parametrize("segments", [b"", b"\xff\xe0\0\x04ab", b"\xff\xe0\0\x04ab\xff\xe2\0\x03c"])
@pytest.mark.parametrize("rest", [SCAN, b"", b"\xff", b"\xff\xff", b"no segment"])
def test_exif_segments_are_removed_from_a_jpeg(segments: bytes, rest: bytes):
    assert _without_exif(b"\xff\xd8" + EXIF + segments + EXIF + rest) == b"\xff\xd8" + segments + rest


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_without_three_colours_are_decoded(mode: str, tmp_path: Path):
    Image.new(mode, (30, 30), 90 if mode == "L" else (90, 90, 90, 90)).save(tmp_path / "x.jpg")
    assert decoded((tmp_path / "x.jpg").read_bytes(), STORED).shape == (STORED, STORED, 3)


# ---- unreadable images


def _damage_three(images: Path) -> list[str]:
    (images / "train/ant/1.png").write_bytes(b"no image")
    (images / "train/cow/0.png").write_bytes(b"")
    whole = (images / "val/bee/1.png").read_bytes()
    (images / "val/bee/1.png").write_bytes(whole[: len(whole) // 2])
    return ["train/ant/1.png", "train/cow/0.png", "val/bee/1.png"]


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_truncated_jpeg_is_unreadable(share: float, tmp_path: Path):
    Image.effect_noise((60, 60), 50).convert("RGB").save(tmp_path / "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    with pytest.raises(DataError, match="truncated"):
        decoded(data[: int(share * len(data))], STORED)


def test_unreadable_images_are_skipped_and_named_with_skip_corrupt(images: Path, tmp_path: Path):
    damaged = _damage_three(images)
    prepared = _prepare(images, tmp_path / "home", skip_corrupt=True)
    assert (prepared.train, prepared.val, list(prepared.skipped)) == (10, 5, damaged)
    assert _arrays(prepared)["train_labels"].tolist() == [0] * 3 + [1] * 4 + [2] * 3
    assert _prepare(images, tmp_path / "home", skip_corrupt=True) == prepared, "read from the cache"


def test_images_skipped_by_one_study_are_an_error_in_a_study_without_skip_corrupt(images: Path, tmp_path: Path):
    _damage_three(images)
    _prepare(images, tmp_path / "home", skip_corrupt=True)
    with pytest.raises(DataError, match="cannot be read as an image"):
        _prepare(images, tmp_path / "home")


def test_skipped_images_of_a_copy_have_the_names_of_the_copy(images: Path, tmp_path: Path):
    damaged = _damage_three(images)
    first = _prepare(images, tmp_path / "home", skip_corrupt=True)
    second = _prepare(_move_deeper(images, tmp_path / "x", "top"), tmp_path / "home", skip_corrupt=True)
    assert second.folder == first.folder
    assert second.skipped == tuple(f"top/{name}" for name in damaged)


def test_an_unreadable_image_is_named_and_nothing_is_stored(images: Path, tmp_path: Path):
    damaged = _damage_three(images)
    with pytest.raises(DataError, match=f"{images}: {damaged[0]} cannot be read as an image"):
        _prepare(images, tmp_path / "home")
    assert not list((tmp_path / "home").glob("*/about.json"))


def test_a_split_without_readable_images_is_refused(images: Path, tmp_path: Path):
    for file in (images / "val").rglob("*.png"):
        file.write_bytes(b"x")
    with pytest.raises(DataError, match=r"none of the 6 images can be read, val/ant/0\.png among them"):
        _prepare(images, tmp_path / "home", skip_corrupt=True)


@pytest.mark.parametrize("name", ["x.tar", "x.zip"])
def test_a_truncated_archive_is_refused(images: Path, tmp_path: Path, name: str):
    archive = (_tar if name == "x.tar" else _zip)(images, tmp_path / name, "top")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{name}"):
        _prepare(archive, tmp_path / "home")


def test_a_damaged_member_of_a_zip_is_an_unreadable_image(images: Path, tmp_path: Path):
    archive = _zip(images, tmp_path / "x.zip", "")
    content = bytearray(archive.read_bytes())
    content[200:220] = bytes(20)  # inside the first member, which is not compressed: its checksum is now wrong
    archive.write_bytes(bytes(content))
    assert _prepare(archive, tmp_path / "home", skip_corrupt=True).skipped == ("train/ant/0.png",)


# ---- decoded once


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The image files of folders that have been read so far."""
    files: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: [files.append(path), read_bytes(path)][1])
    return files


def _folder_and_messages(path: Path, cache_dir: Path) -> tuple[Path, int]:
    """The folder of stored images, and the number of messages, one for each preparation."""
    messages: list[str] = []
    prepared = _prepare_in(cache_dir, DataSource(f"folder:{path}"), say=messages.append)
    return prepared.folder, len(messages)


def test_prepared_images_are_reused_without_reading_the_files(images: Path, tmp_path: Path, files_read: list[Path]):
    first, messages = _folder_and_messages(images, tmp_path / "home")
    assert (messages, len(files_read)) == (1, 2 * 18), "each file for the fingerprint, and for the decoding"
    files_read.clear()
    assert (_folder_and_messages(images, tmp_path / "home"), files_read) == ((first, 0), [])


def test_another_side_or_subset_reads_only_the_files_it_needs(images: Path, tmp_path: Path, files_read: list[Path]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "home"))
        small, large = (prepare(DataSource(f"folder:{images}"), side, tmp_path) for side in (SIDE, 2 * SIDE))
    assert (small.folder != large.folder, len(files_read)) == (True, 18 + 2 * 18)
    files_read.clear()
    _prepare(images, tmp_path / "home", train=5, val=3)
    assert len(files_read) == 2 * 8


def test_a_copy_with_other_times_has_the_same_fingerprint(images: Path, tmp_path: Path, files_read: list[Path]):
    first, _ = _folder_and_messages(images, tmp_path / "home")
    copy = Path(shutil.copytree(images, tmp_path / "node/copy", copy_function=shutil.copyfile))
    os.utime(copy / "train/ant/0.png", ns=(1, 1))
    files_read.clear()
    assert _folder_and_messages(copy, tmp_path / "home") == (first, 0)
    assert len(files_read) == 18, "for the fingerprint; no image is decoded again"
    assert _folder_and_messages(copy, tmp_path / "other") == (tmp_path / "other" / first.name, 1)


def test_new_times_and_names_in_the_same_order_keep_the_fingerprint(images: Path, tmp_path: Path):
    first, _ = _folder_and_messages(images, tmp_path / "home")
    os.utime(images / "train/ant/0.png", ns=(1, 1))
    (images / "train/ant/3.png").rename(images / "train/ant/4.png")
    assert _folder_and_messages(images, tmp_path / "home") == (first, 0)


def _change_a_byte(images: Path) -> None:
    file = images / "train/ant/0.png"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")  # the last byte of the checksum of the last PNG chunk
    os.utime(file, ns=(1, 1))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a byte": _change_a_byte,
    "the order": lambda images: (images / "train/ant/0.png").rename(images / "train/ant/9.png"),
    "a label": lambda images: (images / "train/ant/3.png").rename(images / "train/bee/-.png"),
    "the name of a class": lambda images: [(images / s / "ant").rename(images / s / "ape") for s in COUNTS],
    "an image removed": lambda images: (images / "val/cow/1.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_images_have_another_folder(change: Callable[[Path], object], images: Path, tmp_path: Path):
    first, _ = _folder_and_messages(images, tmp_path / "home")
    change(images)
    assert _folder_and_messages(images, tmp_path / "home")[0] != first


def test_a_changed_byte_with_unchanged_size_and_time_is_noticed_when_the_files_are_read(images: Path, tmp_path: Path):
    first, _ = _folder_and_messages(images, tmp_path / "home")
    stat = (images / "train/ant/0.png").stat()
    _change_a_byte(images)
    os.utime(images / "train/ant/0.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert _folder_and_messages(images, tmp_path / "home")[0] == first
    shutil.rmtree(tmp_path / "home" / FINGERPRINTS)
    assert _folder_and_messages(images, tmp_path / "home")[0] != first


@pytest.mark.parametrize(("kind", "cache"), [("folder", "none"), ("timm", "auto")])
def test_without_a_cache_the_stat_fingerprint_shows_changes(
    kind: str, cache: str, images: Path, tmp_path: Path, files_read: list[Path]
):
    def folder() -> Path:
        return _prepare_in(tmp_path / "home", DataSource(f"{kind}:{images}"), cache=cache).folder

    first = folder()
    assert folder() == first
    (images / "train/ant/0.png").touch()
    assert folder() != first
    assert files_read == []
    assert not (tmp_path / "home").exists()


def test_images_that_change_while_they_are_read_are_not_stored(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def change_and_decode(*args: object, **keys: object) -> object:
        _change_a_byte(images)
        return decode_images(*args, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(folder_source, "decode_images", change_and_decode)
    with pytest.raises(DataError, match=f"folder:{images} was changed while it was read; run again"):
        _prepare(images, tmp_path / "home")
    assert not list((tmp_path / "home").glob("*/about.json"))


def test_a_killed_preparation_starts_again(images: Path, tmp_path: Path):
    folder = _prepare(images, tmp_path / "a").folder
    unfinished = tmp_path / "b" / (folder.name + ".unfinished")
    unfinished.mkdir(parents=True)
    (unfinished / "train_images.npy").write_bytes(b"half")
    prepared = _prepare(images, tmp_path / "b")
    assert not unfinished.exists()
    assert np.array_equal(_arrays(prepared)["train_images"], np.load(folder / "train_images.npy"))


def test_too_few_images_for_a_batch_are_refused_before_any_is_decoded(images: Path, tmp_path: Path):
    for source in (f"folder:{images}", f"timm:{images}"):
        with pytest.raises(DataError, match=r"recipe.batch=14 is more than the 12 training images"):
            _prepare_in(tmp_path / "home", DataSource(source), batch=14)
    assert not (tmp_path / "home").exists()


def test_a_disk_that_is_too_small_is_refused_before_any_image_is_decoded(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    free = type("Usage", (), {"free": 18 * STORED**2 * 3})
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    with pytest.raises(DataError, match=r"need 0\.00 GB .* has 0\.00 GB free .* take fewer with data\.train"):
        _prepare(images, tmp_path / "home")
    assert [file.name for file in (tmp_path / "home").iterdir()] == [FINGERPRINTS]


# ---- as datasets


@pytest.mark.parametrize("kind", ["folder", "timm"])
def test_every_source_is_a_dataset_of_tensors(kind: str, images: Path, tmp_path: Path):
    prepared = _prepare(images, tmp_path / "home", kind=kind)
    data = DataSource(f"{kind}:{images}")
    assert (prepared.classes, prepared.train, prepared.val) == (CLASSES, 12, 6)
    for split, count in (("train", 12), ("val", 6)):
        batch, labels = _whole_batch(open_split(data, prepared, split, side=SIDE, recipe=Recipe()), count)
        assert (batch.shape, batch.dtype) == ((count, 3, SIDE, SIDE), torch.float32)
        assert labels.tolist() == [label for label in range(3) for _ in range(count // 3)]


def _whole_batch(dataset: Dataset[tuple[torch.Tensor, int]], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = DataLoader(dataset, batch_size=2 * count)
    return batch[0], batch[1]


# ---- through timm


def test_timm_reads_a_folder_one_level_deeper(images: Path, tmp_path: Path):
    prepared = _prepare(_move_deeper(images, tmp_path / "x", "top"), tmp_path / "home", kind="timm")
    assert (prepared.classes, prepared.train, prepared.val) == (CLASSES, 12, 6)


def test_timm_takes_the_same_classes_and_subset_as_a_folder_source(images: Path, tmp_path: Path):
    data = DataSource(f"timm:{images}", train=5)
    prepared = prepare(data, SIDE, tmp_path, classes=2)
    assert (prepared.classes, prepared.train, prepared.val) == (CLASSES[:2], 5, 4)
    _, labels = _whole_batch(open_split(data, prepared, "train", side=SIDE, recipe=Recipe()), 5)
    chosen = FolderSource(DataSource(f"folder:{images}", train=5), 2).entries["train"]
    assert labels.tolist() == [entry.label for entry in chosen]


def test_timm_needs_the_same_classes_in_both_splits(images: Path, tmp_path: Path):
    (images / "val/ant").rename(images / "val/zoo")
    with pytest.raises(DataError, match="class 'zoo' has no image in train/"):
        _prepare(images, tmp_path, kind="timm")


class _NamedDataset:
    """A dataset as timm opens it by name: grey images, and class names if given."""

    def __init__(self, size: int = 6, classes: tuple[str, ...] = ()) -> None:
        self.size, self.transform = size, lambda image: image
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[object, int]:
        if index >= self.size:
            raise IndexError
        return self.transform(Image.new("L", (30, 30))), index % 2


@pytest.fixture
def timm_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """A timm with the datasets `known`, `nameless` (without class names) and `empty`; returns the recorded calls."""
    calls: list[tuple[object, ...]] = []
    datasets = {"known": _NamedDataset(classes=("a", "b")), "nameless": _NamedDataset(), "empty": _NamedDataset(0)}

    def create(name: str, root: str | None, *, split: str, is_training: bool) -> _NamedDataset:
        calls.append((name, root, split, is_training))
        return datasets[name]

    monkeypatch.setattr(timm_datasets, "create_dataset", create)
    return calls


def test_timm_opens_a_named_dataset_with_its_root_and_split(timm_calls: list[tuple[object, ...]], tmp_path: Path):
    data = DataSource("timm:known@~/sets", train=4)
    prepared = prepare(data, SIDE, tmp_path)
    assert (prepared.classes, prepared.train, prepared.val) == (("a", "b"), 4, 6)
    assert set(timm_calls) == {
        ("known", str(Path("~/sets").expanduser()), "train", True),
        ("known", str(Path("~/sets").expanduser()), "validation", False),
    }
    images, _ = _whole_batch(open_split(data, prepared, "train", side=SIDE, recipe=Recipe()), 4)
    assert images.shape == (4, 3, SIDE, SIDE), "grey images are converted to RGB"


REFUSED = [
    ("nameless", None, "timm:nameless does not say how many classes it has; write proxy.classes"),
    ("known", 3, r"proxy\.classes=3: timm:known has 2 classes, and timm takes all of them; leave it out"),
    ("empty", 2, "timm:empty does not say how many images its train split has"),
    ("./photos", 2, r"timm cannot open '\./photos' \(it does not exist\); timm: must name a folder with train/CLASS"),
    ("other", 2, r"timm cannot open 'other' \(KeyError: 'other'\); timm: must name a folder with train/CLASS"),
]


@pytest.mark.usefixtures("timm_calls")
@pytest.mark.parametrize(("name", "classes", "expected"), REFUSED)
def test_a_named_dataset_that_cannot_be_trained_on(name: str, classes: int | None, expected: str, tmp_path: Path):
    with pytest.raises(DataError, match=expected):
        prepare(DataSource(f"timm:{name}"), SIDE, tmp_path, classes=classes)


@pytest.mark.usefixtures("timm_calls")
def test_a_dataset_without_class_names_has_proxy_classes(tmp_path: Path):
    assert prepare(DataSource("timm:nameless"), SIDE, tmp_path, classes=2).classes == ("class 0", "class 1")


# ---- augmentation


@pytest.mark.parametrize("policy", ["", "rand-m9-mstd0.5-inc1", "augmix-m5", "original", "3a"])
def test_policies_of_timm_are_accepted(policy: str):
    check_augmentation(Recipe(auto_augment=policy), SIDE)


@pytest.mark.parametrize("policy", ["best", "rand-q9", "rand-m9-q3"])
def test_unknown_policies_are_refused(policy: str):
    with pytest.raises(DataError, match=f"timm knows no policy '{policy}'"):
        check_augmentation(Recipe(auto_augment=policy), SIDE)
