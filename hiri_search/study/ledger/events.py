"""Events of the ledger: one frozen record for each kind of line, with its fields and their types.

On disk an event is a JSON object: `event` names its kind, `time` is when it was written, and the other keys are the
fields below; a field with its default value is left out. `json_lines` reads and writes them, and refuses unknown keys
and values of a wrong type.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.language.syntax_tree import Option
from hiri_search.study.ledger.values import (
    CodeVersion,
    ImageSet,
    JsonObject,
    JsonRecord,
    LedgerSum,
    NetworkFacts,
)
from hiri_search.training.job import Epoch

FORMAT = 4  # of the ledger; the first line of a ledger names it
GO_ON = "when that is repaired, the same command continues the study"

# Batch, dtype, whether it is compiled, fused, and a CUDA graph, and the machine as JSON.
TimedSetting: TypeAlias = tuple[int, str, bool, bool, bool, str]
Fault: TypeAlias = Literal["process", "environment"]  # why a trial was lost: its own process, or its surroundings


@dataclass(frozen=True, kw_only=True)
class Event(JsonRecord):
    """One line of the ledger."""

    event: str = ""  # names the kind
    time: float | None = field(default=None, compare=False)  # seconds since 1970 by the clock of the writing machine


@dataclass(frozen=True, kw_only=True)
class LedgerStarted(Event):
    """The first line of every ledger."""

    format: int
    event: Literal["ledger"] = "ledger"


@dataclass(frozen=True, kw_only=True)
class StudyStarted(Event):
    """A run begins: the study, and everything its results depend on."""

    file: JsonObject  # the study file with all defaults, as `StudyConfig` reads it
    profile: str
    device: str
    images: ImageSet
    code: CodeVersion
    weights: dict[str, str] = field(default_factory=dict)  # fingerprints of initial weights by file or timm network
    adapted: tuple[str, ...] = ()  # sentences on initial weights that do not fit as they are
    command: str = ""
    versions: dict[str, str | None] = field(default_factory=dict)  # of Python and its packages
    machine: JsonObject = field(default_factory=dict)
    merged_from: tuple[str, ...] = ()  # results folders, in a merged ledger
    overlooked: tuple[str, ...] = ()  # differences between their studies that the user accepted
    event: Literal["study"] = "study"


@dataclass(frozen=True, kw_only=True)
class FolderMerged(Event):
    """A results folder whose trials follow."""

    folder: str
    ledger: LedgerSum
    runs: tuple[JsonObject, ...]  # as its manifest shows them
    code_digest: str  # of its last run
    file: JsonObject
    images: ImageSet
    event: Literal["merged"] = "merged"


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """A plan was made; `Plan.from_json` reads it."""

    plan: JsonObject
    event: Literal["planned"] = "planned"


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """A run reached its end."""

    seconds: dict[str, float]  # by part of the run
    exhausted: bool = False  # a search has asked for every network of its space
    event: Literal["ended"] = "ended"


@dataclass(frozen=True, kw_only=True)
class NetworkCounted(Event):
    """The costs of a row of an ablation."""

    network: NetworkFacts
    event: Literal["counted"] = "counted"


@dataclass(frozen=True, kw_only=True)
class InferenceTimed(Event):
    """The measured inference of a row of an ablation; fields as in `cost.latency.benchmark.Latency`."""

    key: str
    ms_per_image: float
    images_per_second: float
    spread: float
    settled: bool
    batch: int
    side: int
    dtype: str
    compiled: bool
    fused: bool
    repeats: int
    passes: int
    rounds_ms: tuple[float, ...]
    cuda_graphs: bool = False
    compile_seconds: float | None = None
    peak_memory_bytes: int | None = None
    conditions: JsonObject = field(default_factory=dict)
    event: Literal["timed"] = "timed"

    @property
    def setting(self) -> TimedSetting:
        """The setting that the time was measured under; only times of one setting compare."""
        return timed_setting(self, self.conditions.get("machine"))


def timed_setting(of: InferenceTimed | LatencyConfig, machine: object) -> TimedSetting:
    """Return everything but the network that a time depends on: only times of one setting compare."""
    return (of.batch, of.dtype, of.compiled, of.fused, of.cuda_graphs, json.dumps(machine, sort_keys=True))


@dataclass(frozen=True, kw_only=True)
class NetworkSkipped(Event):
    """A network of a search that cannot be trained, so that no trial was made of it."""

    proposal: int  # place in the sequence of proposals
    decisions: dict[str, Option]  # the option of each decision
    reason: str
    event: Literal["skipped"] = "skipped"


@dataclass(frozen=True, kw_only=True)
class TrialEvent(Event):
    """An event of one trial."""

    trial: int


@dataclass(frozen=True, kw_only=True)
class TrialAsked(TrialEvent):
    """A new trial: everything that decides its result."""

    network: NetworkFacts
    seed: int
    checkpoint: str  # path inside the results folder
    decisions: dict[str, Option] = field(default_factory=dict)  # of a search: the option of each decision
    confirms: int | None = None  # the trial whose network is trained longer
    confirm_epochs: int | None = None
    added_for: tuple[str, str] | None = None  # a seed that the rule of `seeds: auto` added: the pair of rows it is for
    merged_trial: int | None = None  # its number in the folder it was merged from
    event: Literal["asked"] = "asked"


@dataclass(frozen=True, kw_only=True)
class TrialBegan(TrialEvent):
    """A worker started the trial, or continued it."""

    device: str
    event: Literal["began"] = "began"


@dataclass(frozen=True, kw_only=True)
class TrialScored(TrialEvent):
    """Zero-cost scores of the untrained network."""

    scores: dict[str, float | None]
    event: Literal["scored"] = "scored"


@dataclass(frozen=True, kw_only=True)
class EpochEnded(TrialEvent):
    """One epoch was trained and validated."""

    result: Epoch
    event: Literal["epoch"] = "epoch"


@dataclass(frozen=True, kw_only=True)
class TrialPaused(TrialEvent):
    """The trial reached its rung and waits for a promotion."""

    curve: tuple[Epoch, ...]
    event: Literal["paused"] = "paused"


@dataclass(frozen=True, kw_only=True)
class TrialPromoted(TrialEvent):
    """A paused trial continues to the next rung."""

    event: Literal["promoted"] = "promoted"


@dataclass(frozen=True, kw_only=True)
class TrialStopped(TrialEvent):
    """A paused trial is not continued."""

    reason: str = ""
    event: Literal["stopped"] = "stopped"


@dataclass(frozen=True, kw_only=True)
class TrialFinished(TrialEvent):
    """The trial reached its last epoch, or takes over the curve of the same training."""

    curve: tuple[Epoch, ...]
    source: str = ""  # `trial 3`, or `FOLDER: trial 3`: where the curve comes from; empty: trained here
    event: Literal["finished"] = "finished"


@dataclass(frozen=True, kw_only=True)
class TrialFailed(TrialEvent):
    """The training raised an error, or was lost too often."""

    reason: str
    traceback: str = ""
    event: Literal["failed"] = "failed"


@dataclass(frozen=True, kw_only=True)
class TrialRetried(TrialEvent):
    """A failed trial is trained again (`--retry-failed`)."""

    event: Literal["retried"] = "retried"


@dataclass(frozen=True, kw_only=True)
class TrialLost(TrialEvent):
    """The worker, or something it needs, is gone; the trial continues on another worker."""

    fault: Fault
    reason: str
    traceback: str = ""
    event: Literal["lost"] = "lost"


@dataclass(frozen=True, kw_only=True)
class TrialOutOfMemory(TrialEvent):
    """The trial did not fit on a GPU that it shares; it continues alone on one."""

    reason: str
    event: Literal["out_of_memory"] = "out_of_memory"


StudyEvent: TypeAlias = LedgerStarted | StudyStarted | FolderMerged | Planned | RunEnded
NetworkEvent: TypeAlias = NetworkCounted | InferenceTimed | NetworkSkipped
TrialProgress: TypeAlias = TrialAsked | TrialBegan | TrialScored | EpochEnded | TrialPromoted | TrialRetried
# A trial is trained in stints: from TrialBegan to one of these.
StintEnded: TypeAlias = TrialFinished | TrialFailed | TrialStopped | TrialPaused | TrialLost | TrialOutOfMemory
AnyEvent: TypeAlias = StudyEvent | NetworkEvent | TrialProgress | StintEnded
