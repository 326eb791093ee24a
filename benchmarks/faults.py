"""Whatever breaks, broken on purpose and at random moments: is a trial lost, trained twice, or wrong?

Small studies of real trainings run in a process of their own and are hurt there, again and again, until each fault was
caused so many times; after each one the study goes on, by itself or by the same command. A study's rows are then held
against those of an unbroken run, to the last digit. `lost`: trials that did not finish; `twice`: epochs that were
trained to their end once more; `wrong`: rows with another digit.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

TIMES = 20
PATIENCE = 240.0  # seconds until a study that stands still is a failure
MOMENT = 3.0  # seconds behind a sign of life, at most, until something is broken
FULL, AWAY = (0.5, 2.5), (0.5, 2.5)  # seconds that a disk is full, or a folder away
LAST_WORDS = 2000  # letters of what a driver said, where it did not do as it should
NODES = 3  # of a cluster, a trial on each
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
    """A study that is hurt, and the process that runs it."""

    home: Path
    rng: random.Random
    process: subprocess.Popen[str] | None = None
    machines: subprocess.Popen[str] | None = None  # a cluster, where the study runs on one
    started_with: int = 0  # events in the ledger when the process began

    @property
    def results(self) -> Path:
        return self.home / "results"

    def events(self) -> list[dict[str, Any]]:
        ledger = self.results / "ledger.jsonl"
        with suppress(OSError):
            whole = ledger.read_bytes().rpartition(b"\n")[0]
            return [json.loads(line) for line in whole.splitlines() if line.strip(b"\0")]
        return []

    def begin(self, *flags: str, **environment: str) -> None:
        self.started_with = len(self.events())
        with (self.home / "driver.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__, "--drive", str(self.home), *flags],
                start_new_session=True,
                stdout=log,
                stderr=log,
                text=True,
                env=os.environ | environment | {"HIRI_SEARCH_CACHE": str(self.home / "cache")},
            )

    def last_words(self) -> str:
        return (self.home / "driver.log").read_text()[-LAST_WORDS:]

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def has_worked(self) -> bool:
        """Since it began."""
        return any(event["event"] == "epoch" for event in self.events()[self.started_with :])

    def wait(self, holds: Callable[[], bool]) -> bool:
        """Until it holds or the process has ended; whether it holds."""
        end = time.monotonic() + PATIENCE
        while not holds():
            if not self.is_running():
                return holds()
            if time.monotonic() > end:
                raise SystemExit(f"{self.home} stands still:\n{self.last_words()}")
            time.sleep(0.05)
        return True

    def pids(self, name: str) -> list[int]:
        """Processes below the driver whose command holds a name."""
        assert self.process
        listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        below, grown = {self.process.pid}, True
        while grown:
            more = {int(pid) for pid, parent, _ in rows if int(parent) in below} - below
            below, grown = below | more, bool(more)
        return [int(pid) for pid, _, command in rows if int(pid) in below and name in command]

    def signal(self, number: int) -> None:
        assert self.process
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)


Cause = Callable[[Case], bool]  # whether it could be caused


@dataclass(frozen=True)
class Fault:
    """Something that breaks."""

    cause: Cause
    flags: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()  # of the driver, which ends by it; none: it goes on
    may: tuple[int, ...] = ()  # codes it may end with all the same, where it was hurt too often in a row
    mend: Callable[[Case], None] = lambda case: None
    full_disk: bool = False
    cluster: bool = False  # of several nodes
    storage: bool = False  # a shared folder beside the results


# ---- the faults


def kill(name: str, number: int = signal.SIGKILL) -> Cause:
    def cause(case: Case) -> bool:
        found = case.pids(name)
        if found:
            with suppress(ProcessLookupError):
                os.kill(case.rng.choice(found), number)
        return bool(found)

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
                os.killpg(case.process.pid, signal.SIGINT)  # as a terminal does: to all of them
            time.sleep(case.rng.uniform(0.1, 1.0))
        return True

    return cause


def flagged(name: str) -> Cause:
    """The next trial that ends an epoch finds this file, and does what it says."""

    def cause(case: Case) -> bool:
        flag = case.home / name
        flag.touch()
        return case.wait(lambda: not flag.exists())

    return cause


def torn(case: Case) -> bool:
    signalled(signal.SIGKILL)(case)
    assert case.process
    case.process.wait()
    ledger = case.results / "ledger.jsonl"
    content = ledger.read_bytes()
    last = len(content) - (content[:-1].rfind(b"\n") + 1)
    os.truncate(ledger, len(content) - case.rng.randrange(1, last))
    return True


def fill(case: Case) -> bool:
    with suppress(OSError), (case.home / "ballast").open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    return True


def empty(case: Case) -> None:
    (case.home / "ballast").unlink(missing_ok=True)


def full_for_a_while(case: Case) -> bool:
    fill(case)
    time.sleep(case.rng.uniform(*FULL))
    empty(case)
    return True


def away_for_a_while(case: Case) -> bool:
    elsewhere = case.home / "away"
    case.results.rename(elsewhere)
    time.sleep(case.rng.uniform(*AWAY))
    elsewhere.rename(case.results)
    return True


def head_lost(case: Case) -> bool:
    """With its disk; another one has the storage alone."""
    signalled(signal.SIGKILL)(case)
    assert case.process
    case.process.wait()
    while case.results.exists():  # its trials may live for a moment longer
        shutil.rmtree(case.results, ignore_errors=True)
    return True


def storage_away(case: Case) -> bool:
    shared = case.home / "shared"
    elsewhere = case.home / "away"
    shared.rename(elsewhere)
    time.sleep(case.rng.uniform(*AWAY))
    elsewhere.rename(shared)
    return True


def images_gone(case: Case) -> bool:
    shutil.rmtree(case.home / "cache", ignore_errors=True)
    return True


def node_lost(case: Case) -> bool:
    """With all of its processes; another one comes."""
    machines = case.machines
    assert machines
    assert machines.stdin
    assert machines.stdout
    machines.stdin.write(f"{case.rng.randrange(NODES)}\n")
    machines.stdin.flush()
    return machines.stdout.readline() == "lost\n"


SHORT = ("--timeout", "3")
HASTY = ("--patience", "2")
FAULTS = {
    "worker killed (kill -9)": Fault(kill("ray::RayWorker")),
    "worker stopped (kill -STOP)": Fault(kill("ray::RayWorker", signal.SIGSTOP), SHORT),
    "trial hangs": Fault(flagged("hang"), SHORT),
    "trial raises": Fault(flagged("raise")),
    "driver killed (kill -9)": Fault(signalled(signal.SIGKILL), codes=(-9,)),
    "node lost": Fault(node_lost, may=(2,), cluster=True),
    "raylet killed (kill -9)": Fault(kill("/raylet/raylet "), codes=(2,)),
    "agent of Ray killed (kill -9)": Fault(kill("ray::RuntimeEnvAgent"), codes=(2,)),
    "head of Ray killed (kill -9)": Fault(kill("/gcs/gcs_server "), codes=(2,)),
    "Ctrl-C": Fault(ctrl_c(1), codes=(130, 0)),
    "Ctrl-C twice": Fault(ctrl_c(2), codes=(130, 0)),
    "SIGTERM": Fault(signalled(signal.SIGTERM), codes=(130, 0, -15)),  # -15: when all was over
    "Ctrl-C, one process": Fault(ctrl_c(1), ("--serial",), (130, 0)),
    "ledger torn in its last record": Fault(torn, ("--serial",), (-9,)),
    "disk full for seconds": Fault(full_for_a_while, full_disk=True),
    "disk stays full": Fault(fill, HASTY, (2, 0), mend=empty, full_disk=True),
    "results folder away for seconds": Fault(away_for_a_while),
    "head lost with its disk": Fault(head_lost, codes=(-9,), storage=True),
    "storage away for seconds": Fault(storage_away, storage=True),
    "decoded images vanish": Fault(images_gone, HASTY, (2, 0)),
}

# ---- one study after the other


def endure(fault: Fault, times: int, home: Path, reference: dict[str, Any], rng: random.Random) -> Counter[str]:
    tally: Counter[str] = Counter()
    started = time.monotonic()
    while tally["caused"] < times:
        case = Case(home / f"study_{tally['studies']}", rng)
        with _place(case.home, small=fault.full_disk, shared=fault.storage):
            for _ in _hurt(case, fault, times - tally["caused"]):
                tally["caused"] += 1
            tally += judged(case, reference)
        tally["studies"] += 1
    tally["seconds"] = round(time.monotonic() - started)
    return tally


@contextmanager
def _place(home: Path, *, small: bool = False, shared: bool = False) -> Iterator[None]:
    """The folder of a study: on a small disk where that is to be filled; with a storage where one is wanted."""
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


def _hurt(case: Case, fault: Fault, most: int) -> Iterator[None]:
    """Run the study to its end, and yield each time that it was hurt."""
    caused = 0
    with _surroundings(case, fault) as (flags, environment):
        while not _is_done(case):
            case.begin(*fault.flags, *flags, "--retry-failed", **environment)
            while case.is_running():
                worked = case.wait(case.has_worked)
                time.sleep(case.rng.uniform(0, MOMENT))
                if not worked or caused == most or not case.is_running():
                    break
                if fault.cause(case):
                    caused += 1
                    yield
                if fault.codes:
                    break
                case.started_with = len(case.events())
            code = _end(case)
            fault.mend(case)
            if code not in (0, 1, *fault.codes, *fault.may):
                raise SystemExit(f"exit code {code}, not one of {fault.codes}:\n{case.last_words()}")


@contextmanager
def _surroundings(case: Case, fault: Fault) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """Flags and environment of the driver: a cluster that can lose a node."""
    if fault.cluster:
        command = [sys.executable, "-W", "ignore", __file__, "--nodes"]
        open_to_all = {"RAY_AUTH_MODE": "disabled"}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | open_to_all
        ) as case.machines:
            assert case.machines.stdout
            yield ("--address", case.machines.stdout.readline().strip()), open_to_all
            case.machines.communicate()
    else:
        yield (), {}


def _end(case: Case) -> int:
    assert case.process
    try:
        return case.process.wait(PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise SystemExit(f"{case.home} does not end:\n{case.last_words()}") from error


def _is_done(case: Case) -> bool:
    states = _states(case)
    return len(states) == TRIALS and set(states.values()) == {"finished"}


def _states(case: Case) -> dict[int, str]:
    states = {}
    for event in case.events():
        if event["event"] in ("asked", "finished", "failed", "retried"):
            states[event["trial"]] = event["event"]
    return states


def judged(case: Case, reference: dict[str, Any]) -> Counter[str]:
    """What came of a study that was hurt."""
    traced = [json.loads(line) for line in (case.home / "trace.jsonl").read_text().splitlines()]
    told = Counter((one["trial"], one["epoch"]) for one in traced)
    finished = Counter(event["trial"] for event in case.events() if event["event"] == "finished")
    found = rows(case)
    return Counter(
        trials=len(reference),
        lost=len(set(reference) - set(found)),
        twice=sum(count - 1 for count in (told + finished).values()),
        wrong=sum(found[name] != reference[name] for name in set(found) & set(reference)),
    )


def rows(case: Case) -> dict[str, Any]:
    """The digits of each finished trial, by its name."""
    names = {e["trial"]: f"{e['name']} {e['seed']}" for e in case.events() if e["event"] == "asked"}
    digits = ("epoch", "loss", "lr", "top1", "top5", "ema_top1")
    return {
        names[event["trial"]]: [[epoch[name] for name in digits] for epoch in event["curve"]]
        for event in case.events()
        if event["event"] == "finished"
    }


# ---- the cluster


def nodes() -> None:
    """Nodes of one machine, each with processes of its own; one goes, and another comes, for each line that is read."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    there = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        cluster.remove_node(there.pop(int(line)), allow_graceful=False)
        print("lost", flush=True)
        there.append(cluster.add_node(num_cpus=1))
    cluster.shutdown()


# ---- the process that is hurt


class Watcher:
    """Writes down what a user would read."""

    def say(self, text: str) -> None:
        print(text, flush=True)

    def on_trial(self, trial: Any) -> None:
        print(trial.number, trial.state, trial.reason, flush=True)


def drive(home: Path, given: argparse.Namespace) -> int:
    """As `run` does; its exit code."""
    from hiri_search.study.config.read import read_study
    from hiri_search.study.dispatch import serial_executor
    from hiri_search.study.dispatch.ray_executor import run_on_ray
    from hiri_search.study.dispatch.resources import TrialResources
    from hiri_search.study.dispatch.run_trial import run_trial
    from hiri_search.study.errors import StudyError
    from hiri_search.study.run import run
    from hiri_search.system.shutdown import graceful_shutdown

    do = partial(traced, run_trial, home, given.patience)
    _be_patient(given.patience)
    try:
        with graceful_shutdown(print) as asked:
            slots = TrialResources(0 if given.address else 2, timeout=given.timeout)
            log = home / "ray.log"
            side_by_side = partial(
                run_on_ray, resources=slots, log=log, shutdown=asked, address=given.address, trial_function=do
            )
            execute = (
                partial(serial_executor.run_serially, shutdown=asked, trial_function=do)
                if given.serial
                else side_by_side
            )
            study = read_study(home / "study.yaml")
            run(study, home / "results", execute, Watcher(), profile="none", retry_failed=given.retry_failed)
    except StudyError as error:
        print("error:", error)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _be_patient(seconds: float) -> None:
    from hiri_search.system.files import retrying

    assert retrying.__kwdefaults__
    retrying.__kwdefaults__["seconds"] = seconds


def traced(
    work: Any, home: Path, patience: float, task: Any, on_event: Any, heartbeat: Any, *, shared_gpu: bool
) -> None:
    """The work of a trial, each epoch that is really trained noted, outside of the study.

    `work` comes with it, so that a process has its imports before it is given a task: they take longer than SHORT.
    """
    from hiri_search.system.files import retrying

    _be_patient(patience)
    curve = task.checkpoint.with_name("curve.csv")
    there = f"checkpoints/{curve.parent.name}/{curve.name}"
    stored = task.storage and retrying(partial(task.storage.read, there))
    local = curve.read_bytes() if curve.exists() else b""
    known = max(len(text.splitlines()) - 1 for text in (local, stored or b""))

    def note(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] > known:
            with (home / "trace.jsonl").open("a") as file:
                file.write(json.dumps({"trial": event["trial"], "epoch": event["epoch"]}) + "\n")
        on_event(event)
        if event["event"] == "epoch":
            _obey(home)

    work(task, note, heartbeat, shared_gpu=shared_gpu)


def _obey(home: Path) -> None:
    for name in ("hang", "raise"):
        with suppress(FileNotFoundError):
            (home / name).unlink()
            if name == "raise":
                raise ValueError("on purpose")
            while True:
                time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="NAME")
    parser.add_argument("--times", type=int, default=TIMES, help="that each is caused")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--list", action="store_true", help="only name the faults")
    for flag, kind in (("--drive", Path), ("--timeout", float), ("--patience", float)):
        parser.add_argument(flag, type=kind, default={"--timeout": 1800.0, "--patience": 90.0}.get(flag), help="(own)")
    parser.add_argument("--address", help="(own)")
    for flag in ("--serial", "--retry-failed", "--nodes"):
        parser.add_argument(flag, action="store_true", help="(own)")
    given = parser.parse_args()
    if given.drive:
        sys.exit(drive(given.drive, given))
    if given.nodes:
        nodes()
        return
    if given.list:
        print(*FAULTS, sep="\n")
        return
    with tempfile.TemporaryDirectory(prefix="faults_", ignore_cleanup_errors=True) as place:
        sys.exit(report(given, Path(place)))


def report(given: argparse.Namespace, place: Path) -> int:
    """The table; whether anything went wrong."""
    calm = Case(place / "unbroken", random.Random(given.seed))
    with _place(calm.home):
        calm.begin("--serial")
        assert _end(calm) == 0, (calm.home / "driver.log").read_text()
    reference, bad = rows(calm), 0
    print("| fault | caused | trials | lost | twice | wrong | s |", "|-|-|-|-|-|-|-|", sep="\n", flush=True)
    for number, name in enumerate(given.faults):
        found = endure(FAULTS[name], given.times, place / str(number), reference, random.Random(f"{given.seed} {name}"))
        cells = [str(found[column]) for column in ("caused", "trials", "lost", "twice", "wrong", "seconds")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        bad += found["lost"] + found["twice"] + found["wrong"]
    return int(bad > 0)


if __name__ == "__main__":
    main()
