"""Time measured on short real trainings, alone or side by side, for planning."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hiri_search.system.hardware import gpus, peak_memory
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.prepare import open_source, stored_side
from hiri_search.training.data.sources.timm_datasets import is_stream
from hiri_search.training.job import DataSource, Epoch, Job, PreparedData
from hiri_search.training.loop import train
from hiri_search.training.zero_cost import job_scores
from hiri_search.user_code import UserCode

# Steps per epoch of a probe. A GPU prefetches batches; a very short epoch would hide the time of loading them.
PROBE_STEPS, _GPU_PROBE_STEPS = 2, 8
_MIN_TIMED_EPOCHS = 1  # after the first epoch, which also builds, allocates and compiles and so is not timed
_SECONDS = 2.0  # of timed epochs for each network
_MAX_EPOCHS = 1_000_000  # epochs in the recipe of a probe, which the clock ends much earlier
_PROBE_IMAGES = 24  # decoded images from which the decoding time is measured
_TIME_LIMIT = 25.0  # seconds after which a process starts no further probe

_IndexedJob = tuple[int, Job, PreparedData]


class ProbeError(ValueError):
    """A trial that fails while its time is measured, and so would fail in the study."""


@dataclass(frozen=True)
class TrialTiming:
    """Mean duration of each part of a trial, in seconds."""

    start: float  # time before the first step, and the excess of the first epoch over a later one
    step: float  # one training step, including the wait for its images
    evaluate: float  # per validation image, with the weights and with their average
    save: float  # checkpoint and curve of one epoch
    zero_cost: float = 0.0  # zero-cost scores, if the study uses them

    def seconds(self, epochs: int, steps: int, val: int) -> float:
        """Return the time of `epochs` epochs with `steps` steps and `val` images each, without zero-cost scores."""
        return self.start + epochs * (steps * self.step + val * self.evaluate + self.save)

    @classmethod
    def mean(cls, timings: Sequence[TrialTiming]) -> TrialTiming:
        """Return the mean of each part."""
        return cls(**{part.name: fmean(getattr(timing, part.name) for timing in timings) for part in fields(cls)})


@dataclass(frozen=True)
class ProbeResults:
    """Timings measured by probes that ran side by side."""

    timings: dict[int, TrialTiming]  # by job index; a job is missing if the time limit came first
    import_seconds: float  # start of a process: Python, torch and timm
    image_seconds: list[float]  # to decode one image on one core, for each entry of `undecoded`
    core_share: float | None  # CPU time per process over elapsed time; under 1 if the cores are busy; None on a GPU
    memory: int | None = None  # most bytes of a process: on its GPU, else in main memory


def probe(job: Job, prepared: PreparedData, *, zero_cost: Sequence[str] = (), seconds: float = _SECONDS) -> TrialTiming:
    """Train like a trial in this process until `seconds` of epochs are timed; return the mean timing.

    `job` and `prepared` come from `shrink_for_probe`. Raise ProbeError if the training fails.
    """
    try:
        timing = _time_training(job, prepared, seconds)
        started = time.perf_counter()
        if zero_cost:
            job_scores(job, prepared, zero_cost)
    except RuntimeError as error:  # from torch, or TrainingError
        raise ProbeError(f"a trial of '{job.spec}' at side {job.side} fails: {error}") from error
    return replace(timing, zero_cost=time.perf_counter() - started)


def _time_training(job: Job, prepared: PreparedData, seconds: float) -> TrialTiming:
    reports: list[tuple[float, Epoch]] = []

    def report(epoch: Epoch) -> None:
        reports.append((time.perf_counter(), epoch))
        if len(reports) > _MIN_TIMED_EPOCHS and reports[-1][0] - reports[0][0] >= seconds:
            raise _ProbeFinished

    endless = replace(job, recipe=replace(job.recipe, epochs=_MAX_EPOCHS))
    started = time.perf_counter()
    with TemporaryDirectory(prefix="hiri_search_probe_") as folder, suppress(_ProbeFinished):
        train(endless, prepared, Path(folder) / "last.pt", report=report)
    return _timing_of(started, reports, job.recipe.batch, prepared)


class _ProbeFinished(Exception):
    """Raised by the report callback to end the training of a probe."""


def _timing_of(started: float, reports: list[tuple[float, Epoch]], batch: int, prepared: PreparedData) -> TrialTiming:
    steps = prepared.train // batch
    times, epochs = zip(*reports, strict=True)
    train_seconds = fmean(steps * batch / epoch.images_per_second for epoch in epochs[1:])
    epoch_seconds = fmean(epoch.seconds for epoch in epochs[1:])
    epoch_with_save = (times[-1] - times[0]) / (len(reports) - 1)
    return TrialTiming(
        start=max(0.0, times[0] - started - epoch_with_save),
        step=train_seconds / steps,
        evaluate=(epoch_seconds - train_seconds) / prepared.val,
        save=max(0.0, epoch_with_save - epoch_seconds),
    )


def shrink_for_probe(job: Job, prepared: PreparedData, folder: Path) -> tuple[Job, PreparedData]:
    """Return the job and its data with only as many images as one epoch of a probe needs.

    Decoded images are replaced by noise, written to `folder` in the same format. Data that a trial decodes during
    training stay as they are, but for a stream, which can only be read in whole epochs and so is replaced by noise
    too. The images of `prepared` need not be decoded yet.
    """
    batch, timm = job.recipe.batch, job.data.kind == "timm"
    train, val = batch * (_GPU_PROBE_STEPS if gpus() else PROBE_STEPS), min(prepared.val, 2 * batch)
    stream = is_stream(job.data)
    as_they_are = prepared.cache == "none" or timm or prepared.transformed or bool(job.data.annotations)
    if as_they_are and not stream:
        return job, replace(prepared, train=min(prepared.train, train), val=val, test=0)
    folder /= f"{job.side}_{batch}"
    _write_noise(folder, {"train": train, "val": val}, stored_side(job.side), len(prepared.classes))
    noise = replace(prepared, folder=folder, train=train, val=val, test=0, cache=prepared.cache.replace("none", "disk"))
    return replace(job, data=DataSource()), noise


def _write_noise(folder: Path, counts: Mapping[str, int], stored: int, classes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        np.save(folder / f"{split}_images.npy", rng.integers(0, 256, (count, stored, stored, 3), np.uint8))
        np.save(folder / f"{split}_labels.npy", rng.integers(0, classes, count))


@dataclass(frozen=True)
class UndecodedImages:
    """Images that must be decoded or drawn before trainings at one side."""

    data: DataSource
    side: int
    classes: int | None


def probe_side_by_side(
    jobs: Sequence[tuple[Job, PreparedData]],
    undecoded: Sequence[UndecodedImages] = (),
    *,
    processes: int,
    zero_cost: Sequence[str] = (),
    code: UserCode | None = None,
    limit: float = _TIME_LIMIT,
) -> ProbeResults:
    """Probe the jobs in `processes` concurrent processes, as trials run, for about `limit` seconds.

    Each process begins at another job and goes through all of them, earlier jobs first. So each job is probed at
    least once if time allows, next to changing neighbours; several probes of a job are averaged. Raise ProbeError
    like `probe`.
    """
    with ExitStack() as stack, TemporaryDirectory(prefix="hiri_search_probe_") as folder:
        children = []
        for number in range(processes):
            own_jobs, images = _probe_order(jobs, number, processes), [] if number else undecoded
            work = tuple(own_jobs), tuple(zero_cost), tuple(images), code or UserCode()
            request = ProbeRequest(time.time(), limit, *work)
            child = _ProbeProcess(request, Path(folder) / str(number), _environment(number, gpus()))
            children.append(stack.enter_context(child))
        answers = [child.answer() for child in children]
    by_job: dict[int, list[TrialTiming]] = {}
    for answer in answers:
        for index, timing in answer["timings"]:
            by_job.setdefault(index, []).append(TrialTiming(**timing))
    timings = {index: TrialTiming.mean(by_job[index]) for index in sorted(by_job)}
    import_seconds, share = (fmean(answer[name] for answer in answers) for name in ("import_seconds", "core_share"))
    memory = max((answer["memory"] for answer in answers if answer["memory"]), default=None)
    share_of_core = None if gpus() else min(1.0, share)
    return ProbeResults(timings, import_seconds, answers[0]["image_seconds"], share_of_core, memory)


def _probe_order(jobs: Sequence[tuple[Job, PreparedData]], number: int, processes: int) -> list[_IndexedJob]:
    """Return all jobs with their indices: first every `processes`-th job from `number` on, then the remaining jobs."""
    own = range(number % len(jobs), len(jobs), processes)
    remaining = (index for index in range(len(jobs)) if index not in own)
    return [(index, *jobs[index]) for index in (*own, *remaining)]


def _environment(number: int, gpu_count: int) -> dict[str, str]:
    """Return the environment that Ray gives its workers; each process gets one of the visible GPUs."""
    python_path = os.pathsep.join(filter(None, sys.path))  # a child finds every module that this process finds
    own = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": python_path}
    if gpu_count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else list(map(str, range(gpu_count)))
        own["CUDA_VISIBLE_DEVICES"] = names[number % gpu_count]
    return os.environ | own


@dataclass(frozen=True)
class ProbeRequest:
    """The work of one probe process."""

    requested: float  # wall clock time, in seconds
    limit: float
    jobs: tuple[_IndexedJob, ...]
    zero_cost: tuple[str, ...]
    undecoded: tuple[UndecodedImages, ...]
    code: UserCode


class _ProbeProcess:
    """A process that runs probes; it is killed when its context ends."""

    def __init__(self, request: ProbeRequest, path: Path, environment: dict[str, str]) -> None:
        path.write_bytes(pickle.dumps(request))
        self._out, self._log = path.with_suffix(".json"), path.with_suffix(".log")
        # Not multiprocessing, which would import the caller's main program again.
        call = f"run_request(*{[str(path), str(self._out)]})"
        command = [sys.executable, "-P", "-c", f"from {__name__} import run_request; {call}"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def __enter__(self) -> _ProbeProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def answer(self) -> dict[str, Any]:
        if self._process.wait():
            lines = self._log.read_text().strip().splitlines()
            raise ProbeError((lines or ["a process that measured trial times was killed"])[-1])
        answer: dict[str, Any] = json.loads(self._out.read_text())
        return answer


def run_request(path: str, out: str) -> None:
    """Run the request at `path` in a child process and write its answer to `out`; exit with the message of an error."""
    request: ProbeRequest = pickle.loads(Path(path).read_bytes())
    import_seconds = time.time() - request.requested
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        request.code.load()
        images = [image_seconds(entry) for entry in request.undecoded]
        end, timings = time.perf_counter() + request.limit, []
        for index, job, prepared in request.jobs:
            timings.append((index, asdict(probe(job, prepared, zero_cost=request.zero_cost))))
            if time.perf_counter() >= end:
                break
    except ValueError as error:  # a ProbeError, or a DataError of the user's images
        sys.exit(str(error))
    share = (time.process_time() - cpu_started) / (time.perf_counter() - started)
    times = {"import_seconds": import_seconds, "timings": timings, "image_seconds": images}
    answer = {**times, "core_share": share, "memory": peak_memory()}
    Path(out).write_text(json.dumps(answer))


def image_seconds(undecoded: UndecodedImages) -> float:
    """Return the mean time to decode one image on one core, from a small sample. Raise DataError like decoding."""
    source, stored = open_source(undecoded.data, undecoded.classes), stored_side(undecoded.side)
    count = source.counts["train"]
    sample = range(0, count, -(-count // _PROBE_IMAGES))
    started = time.perf_counter()
    for index in sample:
        with suppress(*([DataError] if undecoded.data.skip_corrupt else [])):
            source.image("train", index, stored)
    return (time.perf_counter() - started) / len(sample)
