"""ImageFolder: the images of a folder, .tar or .zip by split and class, and what was left out."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from random import Random

from hiri_search.system.file_tree.archives import open_tree
from hiri_search.system.file_tree.tree import READ_ERRORS, FileTree
from hiri_search.system.text import first_names, printable
from hiri_search.training.data.image_files import MACOS_METADATA, is_hidden, reason_left_out

LAYOUT = "a folder, .tar or .zip with train/CLASS/*.jpg and val/CLASS/*.jpg"
# Names of the folder of each split, in any case; the first of them that exists is taken.
SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
HELD_OUT_SHARE = 0.2  # of the images of each class, for validation, where there is no folder for it
MAX_DEPTH = 32  # of the folder with the images

FilesByClass = dict[str, list[str]]


class DataError(ValueError):
    """Images that cannot be trained on; the message names the file or folder and its fault."""


@dataclass(frozen=True)
class ImageEntry:
    """One image file: its name in the image folder, and the index of its class."""

    name: str
    label: int


@dataclass(frozen=True)
class ImageFolder:
    """The image files of a folder or archive, by split; the same for a folder and an archive of it."""

    path: Path
    entries: dict[str, tuple[ImageEntry, ...]]
    classes: tuple[str, ...]
    tree: FileTree
    notes: tuple[str, ...]  # sentences on files that are left out, and on images that are held out
    held_out: bool  # validation images are training images that are held out


@dataclass
class _ImageSet:
    """The files of a set of images: by split and class, and those that are left out, with the reason."""

    root: str  # its folder in the tree: empty, or a name with a slash
    folders: dict[str, str]  # of the splits
    by_class: dict[str, FilesByClass]
    left_out: list[tuple[str, str]]
    notes: list[str]

    @property
    def filled(self) -> bool:
        return any(any(files.values()) for files in self.by_class.values())


def open_image_folder(path: Path, *, classes: int | None = None, seed: int = 0, use_test: bool = True) -> ImageFolder:
    """List the images at `path`, of the first `classes` classes by name; raises DataError for another layout.

    A share of each class is held out for validation, chosen with the seed, where there is no folder for it. Test images
    are listed where there are some and `use_test` is true.
    """
    with opened_tree(path, f"folder:PATH must be {LAYOUT}") as tree:
        images = _find_images(path, tree)
    if not use_test and images.by_class.pop("test", None) is not None:
        images.notes.append(_note_left_out(tree, f"{images.root}{images.folders['test']}"))
    if images.by_class["train"] and "val" not in images.folders:
        _hold_out(path, images, seed)
    _check_layout(path, images)
    chosen = sorted(images.by_class["train"])[:classes]
    if len(chosen) < max(2, classes or 2):
        too_many = f"proxy.classes={classes} is more; write fewer"
        remedy = too_many if (classes or 0) > len(chosen) else "a training needs 2 or more"
        raise DataError(f"{path} has images of {len(chosen)} class(es) in train/ ({', '.join(chosen)}); {remedy}")
    entries = {
        split: tuple(ImageEntry(file, label) for label, name in enumerate(chosen) for file in files[name])
        for split, files in images.by_class.items()
    }
    notes = (*map(printable, images.notes), *_left_out_note(images.left_out))
    return ImageFolder(path, entries, tuple(chosen), tree, notes, held_out="val" not in images.folders)


@contextmanager
def opened_tree(path: Path, remedy: str) -> Iterator[FileTree]:
    """Open a folder or archive for listing its files; raises DataError where it cannot be read, with the remedy."""
    if not path.exists():
        raise DataError(f"{path} does not exist; {remedy}")
    if not (path.is_dir() or path.is_file()):  # /dev/zero has no end
        raise DataError(f"{path} is a device or a pipe; {remedy}")
    try:
        yield open_tree(path)
    except READ_ERRORS as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        problem = "cannot be read" if path.is_dir() else "is neither a folder nor an archive that can be opened"
        raise DataError(f"{path} {problem} ({reason}); {remedy}") from error


def _find_images(path: Path, tree: FileTree) -> _ImageSet:
    """The only set of images in a tree; it may lie some folders deeper, as in many archives."""
    top = _top(tree)
    roots = [top, *(f"{top}{name}/" for name in _visible_folders(tree, top) if not _is_split(name))]
    split_folders = {root: found for root in roots if (found := _split_folders(tree, root))}
    with_train = {root: found for root, found in split_folders.items() if "train" in found} or split_folders
    sets = [_read_splits(tree, root, found) for root, found in with_train.items()] or [_read_classes(tree, top)]
    filled = [images for images in sets if images.filled]
    if len(filled) > 1:
        folders = " and ".join(f"{images.root}train" for images in filled)
        raise DataError(f"{path} holds more than one set of images ({folders}); give a folder or archive of one")
    images = filled[0] if filled else sets[0]
    if MACOS_METADATA in tree.folders(""):
        images.left_out += [(name, f"in {MACOS_METADATA}") for name, _ in tree.files(MACOS_METADATA)]
    return images


def _top(tree: FileTree) -> str:
    """The folder in which a tree begins: a folder that is the only one in its folder holds no set, or all of it."""
    top = ""
    for _ in range(MAX_DEPTH):
        folders = _visible_folders(tree, top)
        if len(folders) != 1 or _is_split(folders[0]) or _holds_image(tree, top + folders[0]):
            break
        top += f"{folders[0]}/"
    return top


def _visible_folders(tree: FileTree, folder: str) -> list[str]:
    return [name for name in tree.folders(folder) if not is_hidden(name)]


def _is_split(name: str) -> bool:
    return any(name.lower() in names for names in SPLIT_NAMES.values())


def _split_folders(tree: FileTree, root: str) -> dict[str, list[str]]:
    """The folders of each split in a folder, those with classes first, and then in the order of their names."""
    folders = sorted(tree.folders(root), reverse=True)  # train before Train
    by_split = {
        split: sorted(
            (folder for name in names for folder in folders if folder.lower() == name),
            key=lambda folder: not _visible_folders(tree, root + folder),
        )
        for split, names in SPLIT_NAMES.items()
    }
    return {split: found for split, found in by_split.items() if found}


def _read_splits(tree: FileTree, root: str, folders: dict[str, list[str]]) -> _ImageSet:
    """The images of a folder with one folder for each split."""
    images = _ImageSet(root, {}, {"train": {}, "val": {}}, [], [])
    for split, found in folders.items():
        folder, *others = found
        if _is_without_classes(split, folder, _visible_folders(tree, root + folder), images.by_class["train"]):
            others = found
        else:
            images.folders[split] = folder
            images.by_class[split], left_out = _read_split(tree, root + folder)
            images.left_out += left_out
            images.notes += [f"The {split} images are those of {root}{folder}/."] * (folder != split)
        images.notes += (_note_left_out(tree, root + other) for other in others)
    known, classes = set().union(*folders.values()), images.by_class["train"].keys()
    for other in _visible_folders(tree, root):  # a split of another name, such as dev/
        if other not in known and not classes.isdisjoint(tree.folders(root + other)):
            images.notes.append(_note_left_out(tree, root + other))
    return images


def _is_without_classes(split: str, folder: str, inside: Sequence[str], classes: Iterable[str]) -> bool:
    """Return True for a folder without labels, or with one folder for all its images, as many test sets have them."""
    return set(inside).isdisjoint(classes) if split == "test" else not inside and folder.lower() != split


def _note_left_out(tree: FileTree, folder: str) -> str:
    return f"{folder}/ was left out (files: {sum(1 for _ in tree.files(folder)):,})."


def _read_classes(tree: FileTree, root: str) -> _ImageSet:
    """The images of a folder without splits, with one folder for each class, all as training images."""
    if not any(_holds_image(tree, root + name) for name in _visible_folders(tree, root)):
        return _ImageSet("", {}, {"train": {}, "val": {}}, [], [])
    files, left_out = _read_split(tree, root)
    return _ImageSet(
        root, {}, {"train": {name: found for name, found in files.items() if found}, "val": {}}, left_out, []
    )


def _holds_image(tree: FileTree, folder: str) -> bool:
    return any(not reason_left_out(("", name), is_file=True) for name in tree.own_files(folder))


def _read_split(tree: FileTree, folder: str) -> tuple[FilesByClass, list[tuple[str, str]]]:
    """The images below the folder of a split, by class and sorted, and the other files with the reasons."""
    files: FilesByClass = {name: [] for name in _visible_folders(tree, folder)}
    left_out = []
    depth = len(PurePosixPath(folder).parts)
    for name, is_file in tree.files(folder):
        parts = name.split("/")[depth:]
        if reason := reason_left_out(parts, is_file=is_file):
            left_out.append((name, reason))
        else:
            files[parts[0]].append(name)
    return {name: sorted(names, key=lambda file: file.split("/")) for name, names in files.items()}, sorted(left_out)


def _hold_out(path: Path, images: _ImageSet, seed: int) -> None:
    """Move a share of the images of each class, chosen with the seed, from the training to the validation images."""
    missing = f"{images.root}val/" if images.folders else "train/ and val/"
    for name, files in images.by_class["train"].items():
        if len(files) == 1:
            problem = f"{path} has no {missing}, and class {name!r} has one image, of which none can be held out"
            raise DataError(f"{problem} for validation; add some or remove the class")
        held_out = set(Random(seed).sample(files, round(HELD_OUT_SHARE * len(files)) or min(1, len(files))))
        images.by_class["train"][name] = [file for file in files if file not in held_out]
        images.by_class["val"][name] = [file for file in files if file in held_out]
    share = f"{HELD_OUT_SHARE:.0%} of the images of each class, chosen with data.seed={seed},"
    images.notes.append(f"There is no {missing}: {share} were held out for validation.")


def _check_layout(path: Path, images: _ImageSet) -> None:
    for split, files in images.by_class.items():
        if not files:
            raise DataError(f"{path} has no {split}/ with a folder for each class; folder:PATH must be {LAYOUT}")
    all_classes = sorted(set().union(*images.by_class.values()))
    for split, files in images.by_class.items():
        for name in all_classes:
            if not files.get(name):
                folder = f"{images.root}{images.folders.get(split, split)}/"
                hint = _class_hint(images.left_out, f"{folder}{name}/", [other for other in files if files[other]])
                remedy = "add some or remove the class" + ", or write data.test=0" * ("test" in images.by_class)
                raise DataError(f"{path}: class {name!r} has no image in {folder}{hint}; {remedy}")


def _class_hint(left_out: Iterable[tuple[str, str]], folder: str, others: Sequence[str]) -> str:
    """The probable reason why a class has no image."""
    if reasons := Counter(reason for file, reason in left_out if file.startswith(folder)):
        return f" ({_counts(reasons)} left out)"
    name = folder.split("/")[-2]
    composed = partial(unicodedata.normalize, "NFC")  # macOS writes é as two characters, which look like one
    for other in others:
        if composed(other).casefold() == composed(name).casefold():
            return f" (but {other!a} has)" if composed(other) == composed(name) else f" (but {other!r} has)"
    return ""


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())


def _left_out_note(files: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield a sentence that counts and names the files that are left out, if there are any."""
    if files:
        count = "1 file was" if len(files) == 1 else f"{len(files):,} files were"
        names = first_names([name for name, _ in files])
        yield f"{count} left out: {_counts(Counter(reason for _, reason in files))} ({names})."


def left_out(notes: Iterable[str], skipped: Sequence[str]) -> Iterator[str]:
    """Yield the sentences on files and images that are not trained on: the notes of a source, and unreadable images."""
    yield from notes
    if skipped:
        yield f"Unreadable images left out: {len(skipped):,} ({first_names(skipped)})."
