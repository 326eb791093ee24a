"""Fault injection: faults at random moments, and the trials that are lost, trained twice or wrong after them.

Small studies of real trainings run in a separate process, and each fault is injected into them the given number of
times. After each fault the study continues, by itself or with the same command. Then its rows are compared with those
of an undisturbed run, digit by digit. `lost`: trials that did not finish; `twice`: epochs that were fully trained
again; `wrong`: rows with a different digit; `median` and `worst`: seconds from a fault to the first epoch of a trial
that it interrupted.

With --baseline the same faults are injected, in turns, into studies that another checkout of the project runs.

python benchmarks/faults.py --help
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import AnyEvent, EpochEnded, StudyStarted, TrialEvent, TrialFinished, TrialLost
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from hiri_search.study.ledger.trial import reproduced

if TYPE_CHECKING:
    from hiri_search.study.dispatch.task import Heartbeat, Report, TrialFunction, TrialTask

CHECKOUT, SCRIPT = Path(__file__).absolute().parents[1], "benchmarks/faults.py"
TIMES = 20
PATIENCE = 240.0  # seconds without progress after which a study counts as failed
MOMENT = 3.0  # maximum seconds between a sign of progress and the fault
FULL, AWAY = (0.5, 2.5), (0.5, 2.5)  # seconds that a disk is full, or a folder missing
LOG_TAIL = 2000  # characters of a driver log that are shown after an error
NODES = 3  # in the cluster, with one trial each
TRIALS = 16  # 8 networks, 2 seeds
KINDS = ("hr(32 e=4)", "cffn(32 e=4)"), ("hr(64 e=4)", "t(64 e=4)"), ("cffn(128 e=2)", "t(128 e=2)")
STUDY = """
nets:
{nets}
counted: {{side: 64, classes: 10}}
proxy: {{width: 4, side: 32, classes: 4}}
data: {{source: drawn, train: 96, val: 32}}
recipe: {{epochs: 4, batch: 16, warmup_epochs: 0, mixup: 0.2, drop_path: 0.1}}
seeds: 2
"""


@dataclass
class Case:
    """A study that faults are injected into, and the process that runs it."""

    home: Path
    rng: random.Random
    process: subprocess.Popen[str] | None = None
    cluster_process: subprocess.Popen[str] | None = None  # the process of the cluster, if the study runs on one
    started_with: int = 0  # number of ledger events at the start of the process
    checkout: Path = CHECKOUT  # of the project that runs the study
    at: float = 0.0  # time.time() of the last fault
    faults: list[float] = field(default_factory=list)  # time.time() of each injected fault

    @property
    def results(self) -> Path:
        return self.home / "results"

    def events(self) -> Sequence[AnyEvent]:
        with suppress(StudyError):  # no ledger yet, or its folder is away
            return read_events(self.results)
        return []

    def start(self, *flags: str, **environment: str) -> None:
        self.started_with = len(self.events())
        with (self.home / "driver.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", self.checkout / SCRIPT, "--drive", str(self.home), *flags],
                start_new_session=True,
                cwd=self.checkout,  # Ray's workers import from there
                stdout=log,
                stderr=log,
                text=True,
                env=os.environ
                | environment
                | {"HIRI_SEARCH_CACHE": str(self.home / "cache"), "PYTHONPATH": str(self.checkout)},
            )

    def log_tail(self) -> str:
        return (self.home / "driver.log").read_text()[-LOG_TAIL:]

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def has_progressed(self) -> bool:
        """Return True if the current process has finished an epoch."""
        return bool(of_kind(self.events()[self.started_with :], EpochEnded))

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Wait for the condition or the end of the process; return the condition."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if not self.is_running():
                return condition()
            if time.monotonic() > end:
                raise SystemExit(f"{self.home} makes no progress:\n{self.log_tail()}")
            time.sleep(0.05)
        return True

    def pids(self, name: str) -> list[int]:
        """Return the driver and its descendants whose command contains the name."""
        assert self.process
        listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        tree, children = set[int](), {self.process.pid}
        while children:
            tree |= children
            children = {int(pid) for pid, parent, _ in rows if int(parent) in tree} - tree
        return [int(pid) for pid, _, command in rows if int(pid) in tree and name in command]

    def signal(self, number: int) -> None:
        assert self.process
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)


Cause = Callable[[Case], bool]  # False if the fault could not be injected


@dataclass(frozen=True)
class Fault:
    """A fault: its cause, and the exit codes that are allowed after it."""

    cause: Cause
    flags: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()  # exit codes of the driver, which ends; empty: it continues
    allowed_codes: tuple[int, ...] = ()  # further codes, after too many faults in a row
    repair: Callable[[Case], None] = lambda case: None
    full_disk: bool = False
    cluster: bool = False  # run on several nodes
    storage: bool = False  # with a shared folder as storage


# ---- the faults


def kill(*names: str, number: int = signal.SIGKILL) -> Cause:
    """Send a signal to a random process whose command contains one of the names."""

    def cause(case: Case) -> bool:
        pids = [pid for name in names for pid in case.pids(name)]
        if pids:
            with suppress(ProcessLookupError):
                os.kill(case.rng.choice(pids), number)
        return bool(pids)

    return cause


def signalled(*numbers: int) -> Cause:
    def cause(case: Case) -> bool:
        for number in numbers:
            case.signal(number)
            time.sleep(case.rng.uniform(0.1, 1.0))
        return True

    return cause


def ctrl_c(times: int) -> Cause:
    def cause(case: Case) -> bool:
        assert case.process
        for _ in range(times):
            with suppress(ProcessLookupError):
                os.killpg(case.process.pid, signal.SIGINT)  # to the whole process group, as a terminal does
            time.sleep(case.rng.uniform(0.1, 1.0))
        return True

    return cause


def flagged(name: str) -> Cause:
    """Create a file; the next trial that ends an epoch finds it and fails in this way."""

    def cause(case: Case) -> bool:
        flag = case.home / name
        flag.touch()
        found = case.wait(lambda: not flag.exists())
        case.at = time.time()
        return found

    return cause


def tear_ledger(case: Case) -> bool:
    signalled(signal.SIGKILL)(case)
    assert case.process
    case.process.wait()
    ledger = case.results / "ledger.jsonl"
    content = ledger.read_bytes()
    last_line = len(content) - (content[:-1].rfind(b"\n") + 1)
    os.truncate(ledger, len(content) - case.rng.randrange(1, last_line))
    return True


def fill_disk(case: Case) -> bool:
    with suppress(OSError), (case.home / "ballast").open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    return True


def free_disk(case: Case) -> None:
    (case.home / "ballast").unlink(missing_ok=True)


def full_disk_for_seconds(case: Case) -> bool:
    fill_disk(case)
    time.sleep(case.rng.uniform(*FULL))
    free_disk(case)
    return True


def results_missing_for_seconds(case: Case) -> bool:
    moved = case.home / "away"
    case.results.rename(moved)
    time.sleep(case.rng.uniform(*AWAY))
    moved.rename(case.results)
    return True


def lose_head(case: Case) -> bool:
    """Lose the head node with its disk; the next driver has only the storage."""
    signalled(signal.SIGKILL)(case)
    assert case.process
    case.process.wait()
    while case.results.exists():  # its trials may write for a moment longer
        shutil.rmtree(case.results, ignore_errors=True)
    return True


def storage_missing_for_seconds(case: Case) -> bool:
    shared = case.home / "shared"
    moved = case.home / "away"
    shared.rename(moved)
    time.sleep(case.rng.uniform(*AWAY))
    moved.rename(shared)
    return True


def remove_images(case: Case) -> bool:
    shutil.rmtree(case.home / "cache", ignore_errors=True)
    return True


def lose_node(case: Case) -> bool:
    """Lose a node with all its processes; a new node joins."""
    cluster_process = case.cluster_process
    assert cluster_process
    assert cluster_process.stdin
    assert cluster_process.stdout
    cluster_process.stdin.write(f"{case.rng.randrange(NODES)}\n")
    cluster_process.stdin.flush()
    return cluster_process.stdout.readline() == "lost\n"


WORKERS = ("ray::ImplicitFunc", "ray::RayWorker")  # processes of trials: of Ray Tune, and of older versions
SHORT = ("--timeout", "3")
HASTY = ("--patience", "2")
FAULTS = {
    "worker killed (kill -9)": Fault(kill(*WORKERS)),
    "worker stopped (kill -STOP)": Fault(kill(*WORKERS, number=signal.SIGSTOP), SHORT),
    "trial hangs": Fault(flagged("hang"), SHORT),
    "trial raises": Fault(flagged("raise")),
    "driver killed (kill -9)": Fault(signalled(signal.SIGKILL), codes=(-9,)),
    "node lost": Fault(lose_node, allowed_codes=(2,), cluster=True),
    "raylet killed (kill -9)": Fault(kill("/raylet/raylet "), codes=(2,)),
    "agent of Ray killed (kill -9)": Fault(kill("ray::RuntimeEnvAgent"), codes=(2,)),
    "head of Ray killed (kill -9)": Fault(kill("/gcs/gcs_server "), codes=(2,)),
    "Ctrl-C": Fault(ctrl_c(1), codes=(130, 0)),
    "Ctrl-C twice": Fault(ctrl_c(2), codes=(130, 0)),
    "SIGTERM": Fault(signalled(signal.SIGTERM), codes=(130, 0, -15)),  # -15: after the end of all trials
    "Ctrl-C, one process": Fault(ctrl_c(1), ("--serial",), (130, 0)),
    "ledger torn in its last record": Fault(tear_ledger, ("--serial",), (-9,)),
    "disk full for seconds": Fault(full_disk_for_seconds, full_disk=True),
    "disk stays full": Fault(fill_disk, HASTY, (2, 0), repair=free_disk, full_disk=True),
    "results folder away for seconds": Fault(results_missing_for_seconds),
    "head lost with its disk": Fault(lose_head, codes=(-9,), storage=True),
    "storage away for seconds": Fault(storage_missing_for_seconds, storage=True),
    "decoded images vanish": Fault(remove_images, HASTY, (2, 0)),
}

# ---- studies, one after another


@dataclass
class Tally:
    """What the studies of one fault came to."""

    counts: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)  # seconds

    def cells(self) -> list[str]:
        names = ("caused", "trials", "lost", "twice", "wrong", "seconds")
        times = [f"{pick(self.recoveries):.0f}" if self.recoveries else "" for pick in (median, max)]
        return [*(str(self.counts[name]) for name in names), *times]


def inject(
    fault: Fault, times: int, home: Path, reference: dict[str, Any], rng: random.Random, checkout: Path
) -> Tally:
    tally = Tally()
    started = time.monotonic()
    while tally.counts["caused"] < times:
        case = Case(home / f"study_{tally.counts['studies']}", rng, checkout=checkout)
        with _study_folder(case.home, small=fault.full_disk, shared=fault.storage):
            for _ in _disturbed(case, fault, times - tally.counts["caused"]):
                tally.counts["caused"] += 1
            tally.counts += compare(case, reference)
            tally.recoveries += recoveries(case, fault)
        tally.counts["studies"] += 1
    tally.counts["seconds"] = round(time.monotonic() - started)
    return tally


@contextmanager
def _study_folder(home: Path, *, small: bool = False, shared: bool = False) -> Iterator[None]:
    """Create the folder of a study, on a small disk if `small`, with a storage if `shared`."""
    home.mkdir(parents=True)
    if small:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(home)], check=True)
    (home / "study.yaml").write_text(_study() + (f"storage: {home / 'shared'}\n" if shared else ""))
    if shared:
        (home / "shared").mkdir()
    try:
        yield
    finally:
        if small:
            subprocess.run(["umount", "-l", str(home)], check=True)


def _study() -> str:
    nets = [f"{a} -> {b} -> {c}" for a in KINDS[0] for b in KINDS[1] for c in KINDS[2]]
    return STUDY.format(nets="\n".join(f"  net {number}: {net}" for number, net in enumerate(nets)))


def _disturbed(case: Case, fault: Fault, limit: int) -> Iterator[None]:
    """Run the study to its end; yield after each injected fault, at most `limit` times."""
    caused = 0
    with _driver_setup(case, fault) as (flags, environment):
        while not _is_done(case):
            case.start(*fault.flags, *flags, "--retry-failed", **environment)
            while case.is_running():
                progressed = case.wait(case.has_progressed)
                time.sleep(case.rng.uniform(0, MOMENT))
                if not progressed or caused == limit or not case.is_running():
                    break
                case.at = time.time()
                if fault.cause(case):
                    case.faults.append(case.at)
                    caused += 1
                    yield
                if fault.codes:
                    break
                case.started_with = len(case.events())
            code = _end(case)
            fault.repair(case)
            if code not in (0, 1, *fault.codes, *fault.allowed_codes):
                raise SystemExit(f"exit code {code}, not one of {fault.codes}:\n{case.log_tail()}")


@contextmanager
def _driver_setup(case: Case, fault: Fault) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """Yield the flags and environment of the driver; start a cluster if the fault needs one."""
    if fault.cluster:
        command = [sys.executable, "-W", "ignore", __file__, "--nodes"]
        no_auth = {"RAY_AUTH_MODE": "disabled"}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | no_auth
        ) as case.cluster_process:
            assert case.cluster_process.stdout
            yield ("--address", case.cluster_process.stdout.readline().strip()), no_auth
            case.cluster_process.communicate()
    else:
        yield (), {}


def _end(case: Case) -> int:
    assert case.process
    try:
        return case.process.wait(PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise SystemExit(f"{case.home} does not end:\n{case.log_tail()}") from error


def _is_done(case: Case) -> bool:
    states = [trial.state for trial in trials(case.events())]
    return states == ["finished"] * TRIALS


def compare(case: Case, reference: dict[str, Any]) -> Counter[str]:
    """Compare a disturbed study with the reference rows."""
    trace = [json.loads(line) for line in (case.home / "trace.jsonl").read_text().splitlines()]
    trained = Counter((entry["trial"], entry["epoch"]) for entry in trace)
    finished = Counter(event.trial for event in of_kind(case.events(), TrialFinished))
    outcome = rows(case)
    return Counter(
        trials=len(reference),
        lost=len(set(reference) - set(outcome)),
        twice=sum(count - 1 for count in (trained + finished).values()),
        wrong=sum(outcome[name] != reference[name] for name in set(outcome) & set(reference)),
    )


def recoveries(case: Case, fault: Fault) -> list[float]:
    """Return the seconds from each fault to the first epoch of a trial that it interrupted, where it did."""
    interruptions = TrialLost | StudyStarted if fault.codes else TrialLost
    events = [event for event in case.events() if event.time is not None]
    found = []
    for at, following in zip(case.faults, [*case.faults[1:], inf], strict=True):
        later = [event for event in events if at < (event.time or 0) < following]
        interrupted = next((event for event in later if isinstance(event, interruptions)), None)
        if interrupted is None:
            continue
        epochs = of_kind(later[later.index(interrupted) :], EpochEnded)
        if isinstance(interrupted, TrialLost):
            epochs = [epoch for epoch in epochs if epoch.trial == interrupted.trial]
        found += [(epoch.time or 0) - at for epoch in epochs[:1]]
    return found


def rows(case: Case) -> dict[str, Any]:
    """Return the numbers of each finished trial by name."""
    finished = (trial for trial in trials(case.events()) if trial.state == "finished")
    return {f"{trial.network.name} {trial.asked.seed}": reproduced(trial.curve) for trial in finished}


# ---- the cluster


def nodes() -> None:
    """Run a cluster of nodes on this machine; for each line of stdin remove that node and add a new one."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    workers = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        cluster.remove_node(workers.pop(int(line)), allow_graceful=False)
        print("lost", flush=True)
        workers.append(cluster.add_node(num_cpus=1))
    cluster.shutdown()


# ---- the driver process


class Watcher:
    """Prints all messages to the log."""

    def say(self, text: str) -> None:
        print(text, flush=True)

    def on_trial(self, trial: Any) -> None:
        print(trial.number, trial.state, trial.reason, flush=True)


def drive(home: Path, given: argparse.Namespace) -> int:
    """Run the study like the command `run`; return its exit code."""
    from hiri_search.study.config.read import read_study
    from hiri_search.study.dispatch import serial_dispatcher
    from hiri_search.study.dispatch.ray_dispatcher import run_on_ray
    from hiri_search.study.dispatch.resources import TrialResources
    from hiri_search.study.dispatch.run_trial import run_trial
    from hiri_search.study.run import run
    from hiri_search.system.shutdown import graceful_shutdown

    trial_function = partial(traced, run_trial, home, given.patience)
    _set_retry_seconds(given.patience)
    try:
        with graceful_shutdown(print) as shutdown:
            resources, log = TrialResources(0 if given.address else 2, timeout=given.timeout), home / "ray.log"
            on_ray = partial(run_on_ray, resources=resources, log=log, shutdown=shutdown, address=given.address)
            serially = partial(serial_dispatcher.run_serially, shutdown=shutdown)
            dispatch = partial(serially if given.serial else on_ray, trial_function=trial_function)
            study = read_study(home / "study.yaml")
            run(study, home / "results", dispatch, Watcher(), profile="none", retry_failed=given.retry_failed)
    except StudyError as error:
        print("error:", error)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _set_retry_seconds(seconds: float) -> None:
    from hiri_search.system.files import retrying

    assert retrying.__kwdefaults__
    retrying.__kwdefaults__["seconds"] = seconds


def traced(
    trial_function: TrialFunction,
    home: Path,
    patience: float,
    task: TrialTask,
    report: Report,
    heartbeat: Heartbeat,
    *,
    shared_gpu: bool,
) -> None:
    """Run a trial and record each epoch that is really trained in a file outside the study.

    `trial_function` is an argument so that a process imports torch before it gets a task; the import takes longer
    than SHORT.
    """
    from hiri_search.system.files import retrying

    _set_retry_seconds(patience)
    curve = task.checkpoint.with_name("curve.csv")
    stored_path = f"checkpoints/{curve.parent.name}/{curve.name}"
    stored = task.files.storage and retrying(partial(task.files.storage.read, stored_path))
    local = curve.read_bytes() if curve.exists() else b""
    saved_epochs = max(len(text.splitlines()) - 1 for text in (local, stored or b""))

    def trace(event: TrialEvent) -> None:
        if isinstance(event, EpochEnded) and event.result.epoch > saved_epochs:
            with (home / "trace.jsonl").open("a") as file:
                file.write(json.dumps({"trial": event.trial, "epoch": event.result.epoch}) + "\n")
        report(event)
        if isinstance(event, EpochEnded):
            _fail_on_request(home)

    trial_function(task, trace, heartbeat, shared_gpu=shared_gpu)


def _fail_on_request(home: Path) -> None:
    for name in ("hang", "raise"):
        with suppress(FileNotFoundError):
            (home / name).unlink()
            if name == "raise":
                raise ValueError("injected fault")
            while True:
                time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="NAME")
    parser.add_argument("--times", type=int, default=TIMES, help="number of times that each fault is injected")
    parser.add_argument("--baseline", type=Path, help="another checkout of the project, to compare with")
    parser.add_argument("--baseline-times", type=int, default=5, help="as --times, for the baseline")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the faults")
    parser.add_argument("--list", action="store_true", help="only list the faults")
    for flag, kind in (("--drive", Path), ("--timeout", float), ("--patience", float)):
        parser.add_argument(
            flag, type=kind, default={"--timeout": 1800.0, "--patience": 90.0}.get(flag), help="internal"
        )
    parser.add_argument("--address", help="internal")
    for flag in ("--serial", "--retry-failed", "--nodes"):
        parser.add_argument(flag, action="store_true", help="internal")
    options = parser.parse_args()
    if options.drive:
        sys.exit(drive(options.drive, options))
    if options.nodes:
        nodes()
        return
    if options.list:
        print(*FAULTS, sep="\n")
        return
    with tempfile.TemporaryDirectory(prefix="faults_", ignore_cleanup_errors=True) as folder:
        sys.exit(report(options, Path(folder)))


def report(options: argparse.Namespace, folder: Path) -> int:
    """Print the table; return 1 if any trial is lost, trained twice or wrong."""
    undisturbed = Case(folder / "undisturbed", random.Random(options.seed))
    with _study_folder(undisturbed.home):
        undisturbed.start("--serial")
        assert _end(undisturbed) == 0, (undisturbed.home / "driver.log").read_text()
    reference, bad = rows(undisturbed), 0
    checkouts = {"": CHECKOUT} | ({", baseline": options.baseline.absolute()} if options.baseline else {})
    print(
        "| fault | caused | trials | lost | twice | wrong | s | median s | worst s |",
        "|-" * 9 + "|",
        sep="\n",
        flush=True,
    )
    for number, name in enumerate(options.faults):
        for whose, checkout in checkouts.items():
            rng = random.Random(f"{options.seed} {name}")
            times = options.baseline_times if whose else options.times
            tally = inject(FAULTS[name], times, folder / f"{number}{whose}", reference, rng, checkout)
            print(f"| {name}{whose} | {' | '.join(tally.cells())} |", flush=True)
            bad += 0 if whose else sum(tally.counts[column] for column in ("lost", "twice", "wrong"))
    return int(bad > 0)


if __name__ == "__main__":
    main()
