"""Time measured on short real trainings, alone or side by side, for planning."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from hiri_search.system.hardware import gpus
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.prepare import open_source, stored_side
from hiri_search.training.data.timm_datasets import open_timm
from hiri_search.training.job import DataSource, Epoch, Job, PreparedData
from hiri_search.training.loop import train
from hiri_search.training.zero_cost import job_scores

# Of an epoch of a probe; a GPU's batches are gathered ahead, which in a short epoch would not show.
PROBE_STEPS, GPU_PROBE_STEPS = 2, 8
MIN_STEPS = 1  # epochs behind the first, which alone builds, allocates and compiles
SECONDS = 2.0  # for these, of each network
_UNLIMITED = 1_000_000  # epochs: a probe is ended by the clock
PROBE_IMAGES = 24  # that decoding is timed by
LIMIT = 25.0  # seconds after which no network is begun


class ProbeError(ValueError):
    """A trial that cannot be timed, and so would fail."""


@dataclass(frozen=True)
class TrialTiming:
    """What the parts of a trial take, each a mean: sums are what it is for. All in seconds."""

    begin: float  # before the first step, and what the first epoch takes longer than another
    step: float  # of training, the wait for its images included
    look: float  # for each image of the validation, at the weights and at their average
    save: float  # of an epoch: checkpoint and curve
    score: float = 0.0  # of the zero-cost scores, where they are wanted

    def seconds(self, epochs: int, steps: int, val: int) -> float:
        """So many epochs in a row, each of so many steps and validation images; without the scores."""
        return self.begin + epochs * (steps * self.step + val * self.look + self.save)


@dataclass(frozen=True)
class Probed:
    """What was learned by trials side by side."""

    timings: dict[int, TrialTiming]  # by the place of the job; time may not have been enough for all
    import_seconds: float  # until a new process could begin: Python, torch and timm
    image_seconds: list[float]  # that one takes on one core, for each of what is to be decoded
    share: float | None  # of a core that each process had: under 1 where others held it; None on a GPU


def probe(job: Job, prepared: PreparedData, *, zero_cost: Sequence[str] = (), seconds: float = SECONDS) -> TrialTiming:
    """Train as a trial does, in this process, until `seconds` of epochs are seen. `prepared` as `few` makes it.

    ProbeError where the training fails.
    """
    try:
        pace = _train(job, prepared, seconds)
        started = time.perf_counter()
        if zero_cost:
            job_scores(job, prepared, zero_cost)
    except RuntimeError as error:  # of torch, or a TrialFailed
        raise ProbeError(f"a trial of '{job.spec}' at side {job.side} fails: {error}") from error
    return replace(pace, score=time.perf_counter() - started)


def _train(job: Job, prepared: PreparedData, seconds: float) -> TrialTiming:
    told: list[tuple[float, Epoch]] = []

    def hear(epoch: Epoch) -> None:
        told.append((time.perf_counter(), epoch))
        if len(told) > MIN_STEPS and told[-1][0] - told[0][0] >= seconds:
            raise _Enough

    longer = replace(job, recipe=replace(job.recipe, epochs=_UNLIMITED))
    started = time.perf_counter()
    with TemporaryDirectory(prefix="hiri_search_probe_") as home, suppress(_Enough):
        train(longer, prepared, Path(home) / "last.pt", report=hear)
    return _pace(started, told, job.recipe.batch, prepared)


class _Enough(Exception):
    """Raised to end a training."""


def _pace(started: float, told: Sequence[tuple[float, Epoch]], batch: int, prepared: PreparedData) -> TrialTiming:
    steps = prepared.train // batch
    times, epochs = zip(*told, strict=True)
    training = fmean(steps * batch / epoch.images_per_second for epoch in epochs[1:])
    whole = fmean(epoch.seconds for epoch in epochs[1:])
    each = (times[-1] - times[0]) / (len(told) - 1)
    return TrialTiming(
        begin=max(0.0, times[0] - started - each),
        step=training / steps,
        look=(whole - training) / prepared.val,
        save=max(0.0, each - whole),
    )


def shrink_for_probe(job: Job, prepared: PreparedData, folder: Path) -> tuple[Job, PreparedData]:
    """The job with as many images as an epoch of a probe wants: noise, kept in `folder` as decoded images are.

    Those that are decoded while training are decoded for the probe as well, but not those of a stream, which has only
    whole epochs. `prepared` says what there is, decoded or not.
    """
    batch = job.recipe.batch
    train, val = batch * (GPU_PROBE_STEPS if gpus() else PROBE_STEPS), min(prepared.val, 2 * batch)
    if (prepared.cache == "none" or job.data.kind == "timm") and not _streams(job.data, prepared):
        return job, replace(prepared, train=min(prepared.train, train), val=val)
    folder /= f"{job.side}_{batch}"
    _write_noise(folder, {"train": train, "val": val}, stored_side(job.side), len(prepared.classes))
    noise = replace(prepared, folder=folder, train=train, val=val, cache=prepared.cache.replace("none", "disk"))
    return replace(job, data=DataSource()), noise


def _streams(data: DataSource, prepared: PreparedData) -> bool:
    return data.kind == "timm" and isinstance(open_timm(data, "train", prepared.classes), IterableDataset)


def _write_noise(folder: Path, counts: Mapping[str, int], stored: int, classes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        np.save(folder / f"{split}_images.npy", rng.integers(0, 256, (count, stored, stored, 3), np.uint8))
        np.save(folder / f"{split}_labels.npy", rng.integers(0, classes, count))


# ---- side by side


@dataclass(frozen=True)
class Decoded:
    """Images to be decoded, or drawn, for trainings at one side."""

    data: DataSource
    side: int
    classes: int | None


def probe_side_by_side(
    jobs: Sequence[tuple[Job, PreparedData]],
    decoded: Sequence[Decoded] = (),
    *,
    processes: int,
    zero_cost: Sequence[str] = (),
    limit: float = LIMIT,
) -> Probed:
    """Probe in so many processes at once, as trials run, for about `limit` seconds; the earlier jobs first.

    Each process begins at a job of its own and goes through all. So each job is probed at least once where the time
    is enough, among neighbours that change; from several probes the mean is taken. ProbeError as in `probe`.
    """
    with ExitStack() as running, TemporaryDirectory(prefix="hiri_search_probe_") as home:
        begun = []
        for number in range(processes):
            ours, images = _from(jobs, number, processes), [] if number else decoded
            order = ProbeRequest(time.time(), limit, tuple(ours), tuple(zero_cost), tuple(images))
            begun.append(running.enter_context(_Child(order, Path(home) / str(number), _environment(number, gpus()))))
        answers = [child.answer() for child in begun]
    found: dict[int, list[TrialTiming]] = {}
    for answer in answers:
        for place, pace in answer["paces"]:
            found.setdefault(place, []).append(TrialTiming(**pace))
    paces = {place: mean(found[place]) for place in sorted(found)}
    imports, share = (fmean(answer[name] for answer in answers) for name in ("import_seconds", "share"))
    return Probed(paces, imports, answers[0]["image_seconds"], None if gpus() else min(1.0, share))


def _from(jobs: Sequence[tuple[Job, PreparedData]], number: int, processes: int) -> list[tuple[int, Job, PreparedData]]:
    """All jobs with their places: first every so many-th, from the one of this process's number."""
    own = range(number % len(jobs), len(jobs), processes)
    others = (place for place in range(len(jobs)) if place not in own)
    return [(place, *jobs[place]) for place in (*own, *others)]


def mean(paces: Sequence[TrialTiming]) -> TrialTiming:
    """Of each part."""
    return TrialTiming(**{f.name: fmean(getattr(pace, f.name) for pace in paces) for f in fields(TrialTiming)})


def _environment(number: int, count: int) -> dict[str, str]:
    """As Ray makes it for its workers; each has one of the `count` GPUs that this process may see."""
    found = os.pathsep.join(filter(None, sys.path))  # whatever is imported here is found there
    own = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": found}
    if count:
        names = os.environ.get("CUDA_VISIBLE_DEVICES")
        own["CUDA_VISIBLE_DEVICES"] = (names.split(",") if names else list(map(str, range(count))))[number % count]
    return os.environ | own


@dataclass(frozen=True)
class ProbeRequest:
    """What a process is to do."""

    given: float  # the time of the clock on the wall
    limit: float
    jobs: tuple[tuple[int, Job, PreparedData], ...]
    zero_cost: tuple[str, ...]
    decoded: tuple[Decoded, ...]


class _Child:
    """A process that probes; killed where it is left before it ends."""

    def __init__(self, order: ProbeRequest, path: Path, environment: dict[str, str]) -> None:
        path.write_bytes(pickle.dumps(order))
        self._out, self._said = path.with_suffix(".json"), path.with_suffix(".log")
        # Without the caller's program, which a process of multiprocessing would import again.
        command = [sys.executable, "-P", "-c", f"from {__name__} import answer; answer(*{[str(path), str(self._out)]})"]
        with self._said.open("w") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def answer(self) -> dict[str, Any]:
        if self._process.wait():
            said = self._said.read_text().strip().splitlines()
            raise ProbeError((said or ["a process that timed trials was killed"])[-1])
        answer: dict[str, Any] = json.loads(self._out.read_text())
        return answer


def answer(path: str, out: str) -> None:
    """The work of a child; the last line of its output is what is wrong, if anything is."""
    order: ProbeRequest = pickle.loads(Path(path).read_bytes())
    import_seconds = time.time() - order.given
    started, computed = time.perf_counter(), time.process_time()
    try:
        images = [image_seconds(one) for one in order.decoded]
        paces = [(place, asdict(pace)) for place, pace in _until(order)]
    except ValueError as error:  # a ProbeError, or of the user's images
        sys.exit(str(error))
    share = (time.process_time() - computed) / (time.perf_counter() - started)
    found = {"import_seconds": import_seconds, "paces": paces, "image_seconds": images, "share": share}
    Path(out).write_text(json.dumps(found))


def _until(order: ProbeRequest) -> Iterator[tuple[int, TrialTiming]]:
    """One job at least."""
    started = time.perf_counter()
    for place, job, prepared in order.jobs:
        yield place, probe(job, prepared, zero_cost=order.zero_cost)
        if time.perf_counter() - started >= order.limit:
            return


def image_seconds(decoded: Decoded) -> float:
    """What one takes on one core, by a few of them. DataError."""
    supply, stored = open_source(decoded.data, decoded.classes), stored_side(decoded.side)
    count = supply.counts["train"]
    chosen = range(0, count, -(-count // PROBE_IMAGES))
    started = time.perf_counter()
    for index in chosen:
        with suppress(*([DataError] if decoded.data.skip_corrupt else [])):
            supply.image("train", index, stored)
    return (time.perf_counter() - started) / len(chosen)
