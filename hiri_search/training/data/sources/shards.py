"""Shards of WebDataset, read so that several processes together read each image of an epoch once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from timm.data.readers.reader_wds import ReaderWds

from hiri_search.training.data.image_folder import DataError
from hiri_search.training.parallel.ranks import ONE_PROCESS

INFO_FILE = "_info.json"


class ShardReader(ReaderWds):  # type: ignore[misc]
    """timm's reader of shards; of a split it reads the images of one process, which may begin and end inside shards.

    timm gives whole shards to each process, and repeats images of those that have too few. Here all processes know the
    order of the shards in an epoch, and how many images each shard has. Each process takes as many images in a row as
    it needs. So no image comes twice, none but those after the last whole batch is left out of an epoch, and a split
    may have fewer shards than there are processes.
    """

    def __init__(self, *, root: str, name: str, split: str, is_training: bool) -> None:
        super().__init__(root=root, name=name, split=split, is_training=is_training)
        self.ranks, self.steps = ONE_PROCESS, 0  # steps of a training epoch
        files = (str(Path(root) / file) for file in self.split_info.filenames)
        self._lengths: Mapping[str, int] = dict(zip(files, self.split_info.shard_lengths, strict=False))
        self._own: dict[str, range] = {}  # by shard, which of its images are to be read

    def __len__(self) -> int:
        return int(self.num_samples)

    def check(self) -> None:
        """Raise DataError where the list of shards is contradictory, or where a shard is missing."""
        info, lists = self.split_info, (self.split_info.filenames, self.split_info.shard_lengths)
        if not len(set(lists[0])) == len(lists[0]) == len(lists[1]) or sum(lists[1]) != info.num_samples:
            problem = f"{Path(self.root) / INFO_FILE}: of {info.name} {len(lists[0])} filenames have {len(lists[1])}"
            expected = f"one for each file, {info.num_samples} (num_samples) in all"
            raise DataError(f"{problem} shard_lengths, {sum(lists[1])} images in all; write {expected}")
        for file in self._lengths:
            if not Path(file).is_file():
                raise DataError(f"there is no shard {file}, which {INFO_FILE} names; copy it there, or leave it out")

    def _lazy_init(self) -> None:
        super()._lazy_init()
        stages = self.ds.pipeline
        opened = stages.index(self._split_by_node_and_worker) + 1  # the stage that reads the shards it is given
        stages.insert(opened + 1, self._own_images)

    def _share(self) -> range:
        """Return the places of this process's images in the order of an epoch.

        In training the worker processes of a loader give their batches in turn.
        """
        worker, workers, rank = self.worker_id, self.num_workers, self.ranks.rank
        if not self.is_training:
            place, places = rank * workers + worker, self.ranks.size * workers
            return range(self.num_samples * place // places, self.num_samples * (place + 1) // places)
        each, more = divmod(self.steps, workers)
        batches = (rank * self.steps + each * number + min(more, number) for number in (worker, worker + 1))
        return range(*(number * self.batch_size for number in batches))

    def _num_samples_per_worker(self) -> int:
        return len(self._share())

    def _split_by_node_and_worker(self, src: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the shards that have images of this process, of all shards in the order of an epoch."""
        share, place = self._share(), 0
        self._own.clear()
        for shard in src:
            length = self._lengths[shard["url"]]
            own = range(max(share.start - place, 0), min(share.stop - place, length))
            place += length
            if own:
                self._own[shard["url"]] = own
                yield shard

    def _own_images(self, src: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the images of this process, not decoded, of all images of its shards."""
        left = len(self._share())
        for shard, images in groupby(src, key=itemgetter("__url__")):
            own = self._own.pop(shard)
            missing = len(own)
            for image in islice(images, own.start, own.stop):
                missing -= 1
                yield image
            if missing:
                problem = f"{shard} has fewer images than the {self._lengths[shard]} that {INFO_FILE} says"
                raise DataError(f"{problem}; write it again, or correct shard_lengths")
            left -= len(own)
            if not left:
                return  # without the rest of the last shard
        if left:
            raise DataError(f"{next(iter(self._own))} cannot be read; write it again")
