"""Events of the ledger: one frozen record for each kind of line, with its fields and their types.

On disk an event is a JSON object: `event` names its kind, `time` is when it was written, and the other keys are the
fields below; a field that has its default value is left out. `read_line` refuses unknown keys and values of a wrong type.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic_core import to_json as to_json_bytes

from hiri_search.training.job import Epoch

FORMAT = 2  # of the ledger; the first line of a ledger names it
GO_ON = "when that is mended, the same command continues the study"

JsonObject: TypeAlias = dict[str, JsonValue]
Fault: TypeAlias = Literal["process", "environment"]  # why a trial was lost: its own process, or its surroundings
_STRICT = ConfigDict(extra="forbid", strict=True)


class _Record:
    """A value with typed fields, read from JSON without any conversion."""

    __pydantic_config__ = _STRICT


# ---- parts of events


@dataclass(frozen=True)
class StandIn(_Record):
    """The network that is trained for the one that is counted."""

    spec: str
    side: int  # pixels of the square input
    params: int
    macs: int  # multiply-adds of one image


@dataclass(frozen=True)
class NetworkFacts(_Record):
    """A network as it is counted, and its stand-in."""

    name: str  # of the row of an ablation; of a search, the spec
    key: str  # hash of the network
    spec: str
    side: int  # pixels of the square input at which it is counted
    params: int
    macs: int  # multiply-adds of one image
    core_macs: int  # those of convolutions and matrix products alone
    by_part: dict[str, tuple[int, int]]  # params and multiply-adds of each part
    stand_in: StandIn | None = None  # None: counted and shown, not trained
    ms_per_image: float | None = None  # measured inference, where a search needs it
    merged_from: str = ""  # the results folder of its study, in a merged ledger
    merged_name: str = ""  # its name in that study, where a merge had to rename it

    @property
    def own_name(self) -> str:
        """The name of the network in the study that it comes from."""
        return self.merged_name or self.name

    @property
    def trained(self) -> StandIn:
        """The stand-in of a network that is trained."""
        assert self.stand_in, f"{self.name} is not trained"
        return self.stand_in


@dataclass(frozen=True)
class ImageSet(_Record):
    """The images of a study."""

    train: int  # images
    val: int
    classes: int
    keys: dict[str, str]  # content fingerprint by side in pixels
    skipped: tuple[str, ...] = ()  # unreadable images that were left out


@dataclass(frozen=True)
class CodeVersion(_Record):
    """The version of hiri_search that ran."""

    version: str | None
    digest: str  # of its files
    commit: str | None = None  # None: not in git
    changed: tuple[str, ...] = ()  # files with uncommitted changes
    diff: str = ""


@dataclass(frozen=True)
class LedgerSum(_Record):
    """Identity of a ledger: the SHA-256 of its first `lines` lines."""

    lines: int
    sha256: str


# ---- events


@dataclass(frozen=True, kw_only=True)
class Event(_Record):
    """One line of the ledger."""

    time: float | None = field(default=None, compare=False)  # seconds since 1970 by the clock of the writing machine


@dataclass(frozen=True)
class LedgerStarted(Event):
    """The first line of every ledger."""

    format: int
    event: Literal["ledger"] = "ledger"


@dataclass(frozen=True)
class StudyStarted(Event):
    """A run begins: the study, and everything its results depend on."""

    file: JsonObject  # the study file with all defaults, as `Study` reads it
    profile: str
    device: str
    images: ImageSet
    code: CodeVersion
    command: str = ""
    versions: dict[str, str | None] = field(default_factory=dict)  # of Python and its packages
    machine: JsonObject = field(default_factory=dict)
    merged_from: tuple[str, ...] = ()  # results folders, in a merged ledger
    overlooked: tuple[str, ...] = ()  # differences between their studies that the user accepted
    event: Literal["study"] = "study"


@dataclass(frozen=True)
class FolderMerged(Event):
    """A results folder whose trials follow."""

    folder: str
    ledger: LedgerSum
    runs: tuple[JsonObject, ...]  # as its manifest shows them
    code_digest: str  # of its last run
    file: JsonObject
    images: ImageSet
    event: Literal["merged"] = "merged"


@dataclass(frozen=True)
class Planned(Event):
    """A plan was made; `Plan.from_json` reads it."""

    plan: JsonObject
    event: Literal["planned"] = "planned"


@dataclass(frozen=True)
class RunEnded(Event):
    """A run reached its end."""

    seconds: dict[str, float]  # by part of the run
    event: Literal["ended"] = "ended"


@dataclass(frozen=True)
class NetworkCounted(Event):
    """The costs of a row of an ablation."""

    network: NetworkFacts
    event: Literal["counted"] = "counted"


@dataclass(frozen=True)
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
    compile_seconds: float | None = None
    peak_memory_bytes: int | None = None
    conditions: JsonObject = field(default_factory=dict)
    event: Literal["timed"] = "timed"


@dataclass(frozen=True)
class NetworkSkipped(Event):
    """A network of a search that cannot be trained, so that no trial was made of it."""

    proposal: int  # place in the sequence of proposals
    decisions: dict[str, int]
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
    decisions: dict[str, int] = field(default_factory=dict)  # index of the option of each decision
    confirms: int | None = None  # the trial whose network is trained longer
    confirm_epochs: int | None = None
    merged_trial: int | None = None  # its number in the folder it was merged from
    event: Literal["asked"] = "asked"


@dataclass(frozen=True, kw_only=True)
class TrialBegan(TrialEvent):
    """A worker took the trial up."""

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
    """The worker, or something it needs, is gone; the trial continues elsewhere."""

    fault: Fault
    reason: str
    traceback: str = ""
    event: Literal["lost"] = "lost"


@dataclass(frozen=True, kw_only=True)
class TrialOutOfMemory(TrialEvent):
    """The trial did not fit on a GPU that it shares; it continues alone on one."""

    reason: str
    event: Literal["out_of_memory"] = "out_of_memory"


# A trial is trained in stints: from TrialBegan to one of these.
STINT_ENDS = (TrialFinished, TrialFailed, TrialStopped, TrialPaused, TrialLost, TrialOutOfMemory)

AnyEvent: TypeAlias = (
    LedgerStarted
    | StudyStarted
    | FolderMerged
    | Planned
    | RunEnded
    | NetworkCounted
    | InferenceTimed
    | NetworkSkipped
    | TrialAsked
    | TrialBegan
    | TrialScored
    | EpochEnded
    | TrialPaused
    | TrialPromoted
    | TrialStopped
    | TrialFinished
    | TrialFailed
    | TrialRetried
    | TrialLost
    | TrialOutOfMemory
)


# ---- JSON


def to_json(value: object) -> JsonObject:
    """Return a dataclass as plain JSON values."""
    return _JSON.validate_json(to_json_bytes(value))


_JSON: TypeAdapter[JsonObject] = TypeAdapter(JsonObject)


# ---- lines

KINDS: dict[type[Event], str] = {kind: kind.event for kind in get_args(AnyEvent)}


class InvalidLine(ValueError):
    """A line that is no event."""


@cache
def _adapter() -> TypeAdapter[AnyEvent]:
    return TypeAdapter(Annotated[AnyEvent, Field(discriminator="event")])


def read_line(line: bytes) -> AnyEvent:
    """Return the event of a line. InvalidLine says what is wrong with it."""
    try:
        return _adapter().validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidLine(f"{place}: {first['msg']}" if place else first["msg"]) from error


def write_line(event: Event) -> bytes:
    """Return the line of an event, without its end. ValueError where a number is not finite."""
    plain = _adapter().dump_python(event, mode="json", exclude_defaults=True)  # type: ignore[arg-type]
    return json.dumps({"event": KINDS[type(event)], **plain}, allow_nan=False).encode()
