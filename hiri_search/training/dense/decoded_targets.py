"""Decode cache of annotated images: decoded once, with their targets, for all trials of all studies."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from hiri_search.nets.dense.upernet import UNLABELED
from hiri_search.system.files import Say
from hiri_search.training.data.decode_cache import Progress, cache_folder, make_once
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.prepare import ABOUT_FILE, require_one_batch
from hiri_search.training.dense.sources.annotated_source import AnnotatedSource, DenseTarget, object_target
from hiri_search.training.dense.sources.run_lengths import from_counts, to_counts
from hiri_search.training.dense.transforms import reduced, resized_target, size_of
from hiri_search.training.job import SPLITS, PreparedData

STORED_SIDES = 2  # longer side of a stored image, in sides of the network's input: enough for scaling by 2
DENSE_CACHE_FORMAT = 1  # of the stored images and targets: increased when the same source would give other bytes
PER_OBJECT = ("boxes", "labels", "ignored", "area")


def prepare_annotated(
    source: AnnotatedSource, side: int, home: Path, *, batch: int = 1, say: Say = lambda text: None
) -> PreparedData:
    """Decode all images with their annotations once, as `prepare` does, in a folder named by their fingerprint.

    Images larger than STORED_SIDES times `side` are stored smaller, and training targets with them; validation and
    test targets stay in pixels of the original. Raises DataError, naming the file, for every fault of the data.
    """
    require_one_batch(source.counts["train"], batch)
    longest, cache_dir, stat_digest = STORED_SIDES * side, cache_folder(home), source.stat_fingerprint()
    folder = cache_dir / annotated_folder(source, side, stat_digest, cache_dir, say)

    def fill(unfinished: Path) -> None:
        say(f"preparing the images and annotations for side {side}, in {cache_dir}")
        _decode_into(unfinished, source, longest, Progress(sum(source.counts.values()), say))
        if source.stat_fingerprint() != stat_digest:
            raise DataError("the data was changed while it was read; run again when its files are in place")

    make_once(folder, 0 if folder.exists() else source.stored_bytes(longest), fill, say)
    about = json.loads((folder / ABOUT_FILE).read_text())
    require_one_batch(about["train"], batch)
    skipped = tuple(source.name(split, index) for split, index in about["skipped"])
    train, val, test = (about.get(split, 0) for split in SPLITS)
    return PreparedData(folder, tuple(about["classes"]), train, val, skipped, source.notes, test=test)


def annotated_folder(source: AnnotatedSource, side: int, stat_digest: str, cache_dir: Path, say: Say) -> str:
    """The name of the folder of decoded images, by the fingerprint of their content."""
    content = source.content_fingerprint(stat_digest, cache_dir, say)
    key = f"dense {DENSE_CACHE_FORMAT} {STORED_SIDES * side} {source.classes} {source.counts} {content}"
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:12]


def _decode_into(folder: Path, source: AnnotatedSource, longest: int, progress: Progress) -> None:
    about: dict[str, Any] = {"skipped": []}
    most = 0  # the largest class of a semantic map
    for split in source.counts:
        written = _SplitWriter(folder, split)
        with written, warnings.catch_warnings(action="ignore"):  # Pillow warns of odd EXIF blocks and palettes
            for index, item in enumerate(source.images(split)):
                progress.step()
                if item is None:
                    about["skipped"].append((split, index))
                else:
                    written.add(*item, longest=longest, original=split != "train")
        about[split] = written.finish()
        most = max(most, written.largest_class)
    about["classes"] = source.classes or [f"class {index}" for index in range(most + 1)]
    if not source.classes and most < 1:
        problem = f"the masks have no class but 0 (and {UNLABELED}, which is not judged)"
        raise DataError(f"{problem}; write classes as 0, 1, 2, ... in the masks")
    (folder / ABOUT_FILE).write_text(json.dumps(about))


@dataclass
class _SplitWriter:
    """Writes the images and targets of a split: pixels one after the other, and tables of what is where."""

    folder: Path
    split: str
    sizes: list[tuple[int, ...]] = field(default_factory=list)  # height and width: stored, and of the target
    tables: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    largest_class: int = 0

    def __enter__(self) -> None:
        self.images, self.semantic, self.runs = (
            (self.folder / f"{self.split}_{name}.bin").open("wb") for name in ("images", "semantic", "runs")
        )

    def __exit__(self, *error: object) -> None:
        for file in (self.images, self.semantic, self.runs):
            file.close()

    def add(self, pixels: NDArray[np.uint8], target: DenseTarget, *, longest: int, original: bool) -> None:
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        stored, size = reduced(image, longest), size_of(image)
        if not original:
            target, size = resized_target(target, size, size_of(stored)), size_of(stored)
        self.sizes.append((*size_of(stored), *size))
        self.images.write(stored.permute(1, 2, 0).contiguous().numpy().data)
        if "semantic" in target:
            semantic = target["semantic"].contiguous()
            self.semantic.write(semantic.numpy().data)
            self.largest_class = max(self.largest_class, int((semantic * (semantic != UNLABELED)).max()))
            return
        runs = [to_counts(mask) for mask in target["masks"].numpy()] if "masks" in target else []
        self.runs.writelines(run.data for run in runs)
        rows: dict[str, NDArray[Any]] = {name: target[name].numpy() for name in PER_OBJECT}
        rows["objects"], rows["masked"] = np.array([len(target["labels"])]), np.array(["masks" in target])
        rows["run_counts"] = np.array([len(run) for run in runs], np.int64)
        for name, values in rows.items():
            self.tables.setdefault(name, []).append(values)

    def finish(self) -> int:
        tables: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self.tables.items()}
        np.savez(self.folder / f"{self.split}_targets.npz", sizes=np.array(self.sizes, np.int64), **tables)
        return len(self.sizes)


class DecodedTargets(Dataset[tuple[Tensor, DenseTarget]]):
    """The stored images of a split, (3, H, W) uint8, with their targets.

    `size` of a target is height and width of the image that it refers to, of which the stored one may be a smaller
    copy in validation.
    """

    def __init__(self, folder: Path, split: str) -> None:
        with np.load(folder / f"{split}_targets.npz") as tables:
            self._tables = {name: tables[name] for name in tables.files}
        self.sizes = self._tables["sizes"]
        self._images, self._semantic = (_on_disk(folder / f"{split}_{name}.bin") for name in ("images", "semantic"))
        self._runs = _on_disk(folder / f"{split}_runs.bin").view(np.uint32)
        self._pixel_starts = _starts(3 * self.sizes[:, 0] * self.sizes[:, 1])
        if self._is_semantic:
            self._semantic_starts = _starts(self.sizes[:, 2] * self.sizes[:, 3])
        else:
            self._object_starts, self._run_starts = (
                _starts(self._tables["objects"]),
                _starts(self._tables["run_counts"]),
            )

    @property
    def _is_semantic(self) -> bool:
        return "labels" not in self._tables

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> tuple[Tensor, DenseTarget]:
        height, width, *size = self.sizes[index].tolist()
        pixels = self._images[self._pixel_starts[index] : self._pixel_starts[index + 1]]
        image = torch.from_numpy(np.array(pixels)).view(height, width, 3).permute(2, 0, 1)
        return image, self._target(index, *size) | {"size": torch.tensor(size)}

    def _target(self, index: int, height: int, width: int) -> DenseTarget:
        if self._is_semantic:
            values = self._semantic[self._semantic_starts[index] : self._semantic_starts[index + 1]]
            return {"semantic": torch.from_numpy(np.array(values)).view(height, width)}
        first, last = self._object_starts[index : index + 2]
        boxes, labels, ignored, area = (np.array(self._tables[name][first:last]) for name in PER_OBJECT)
        masks = None
        if self._tables["masked"][index]:
            masks = np.zeros((last - first, height, width), np.uint8)
            for position, mask in enumerate(masks, start=first):
                start, end = self._run_starts[position : position + 2]
                mask[:] = from_counts(self._runs[start:end], height, width)
        return object_target(boxes, labels, ignored=ignored, area=area, masks=masks)


def _on_disk(file: Path) -> NDArray[np.uint8]:
    """The bytes of a file, memory-mapped: all trials of a machine share them."""
    return np.memmap(file, np.uint8, "r") if file.stat().st_size else np.zeros(0, np.uint8)


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of some pieces begins that lie one after the other, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)])
