"""Trial: the state that a trial's events lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias

from hiri_search.study.ledger import events
from hiri_search.study.ledger.events import TrialAsked, TrialEvent
from hiri_search.study.ledger.values import NetworkFacts
from hiri_search.training.job import Epoch
from hiri_search.training.score import CLASSIFICATION, Score, score_columns

NO_TEST = score_columns(CLASSIFICATION.scores, test=False)
CURVES = ("curve", "ema_curve")  # validation scores after each epoch: of the last weights, of the averaged ones
STANDARD_ERROR = "standard_error"  # column, of detection and segmentation
ZERO_COST_PREFIX = "zero_cost_"  # of the columns of zero-cost scores
TrialState: TypeAlias = Literal["unfinished", "finished", "failed", "paused", "stopped"]
LAST_EPOCH = ("images_per_second", "images_per_joule", "parts", "peak_memory_bytes")  # columns that show its values
ENDED_STATES = ("finished", "failed", "stopped")  # no further event is expected


@dataclass
class Trial:
    """One training of a network with a seed and a recipe, as its events report it."""

    asked: TrialAsked
    state: TrialState = "unfinished"  # paused: on a rung; stopped: on a rung, for good
    rung: int = 0  # epochs after the last promotion
    reason: str = ""  # of a failure
    source: str = ""  # where the curve comes from if it was not trained: `trial 3`, or `FOLDER: trial 3`
    curve: list[Epoch] = field(default_factory=list)
    zero_cost: dict[str, float | None] = field(default_factory=dict)  # zero-cost scores
    lost: int = 0  # times since the last epoch
    alone: bool = False  # it did not fit on a GPU that it shared
    device: str = ""  # the last one it was trained on

    @property
    def number(self) -> int:
        return self.asked.trial

    @property
    def network(self) -> NetworkFacts:
        return self.asked.network

    def apply(self, event: TrialEvent) -> None:
        """Change the state as one event says."""
        match event:
            case events.TrialFinished():
                self.state, self.curve, self.source = "finished", list(event.curve), event.source
            case events.TrialFailed():
                self.state, self.reason = "failed", event.reason
            case events.TrialRetried():
                self.state, self.reason, self.lost = "unfinished", "", 0
            case events.TrialPaused():
                self.state, self.curve = "paused", list(event.curve)
            case events.TrialPromoted():
                self.state, self.rung = "unfinished", len(self.curve)
            case events.TrialStopped():
                self.state, self.reason = "stopped", event.reason
            case events.EpochEnded():  # an epoch that is reported again replaces the first report
                self.curve, self.lost = [*self.curve[: event.result.epoch - 1], event.result], 0
            case _:
                self._note(event)

    def _note(self, event: TrialEvent) -> None:
        """Apply an event that leaves state and curve as they are."""
        match event:
            case events.TrialBegan():
                self.device = event.device
            case events.TrialScored():
                self.zero_cost = event.scores
            case events.TrialLost():
                self.lost += 1
            case events.TrialOutOfMemory():
                self.alone = True

    @property
    def ended(self) -> bool:
        """True if no further event is expected."""
        return self.state in ENDED_STATES

    @property
    def is_confirmation(self) -> bool:
        """True if this trial trains the network of an earlier trial again, longer."""
        return self.asked.confirms is not None

    def row(self, scores: Sequence[Score] = NO_TEST) -> dict[str, Any]:
        """Return one flat row for tables, with a column for each of `scores`. The CURVES are of the first one."""
        last = self.curve[-1] if self.curve else None
        trained_here = [] if self.source else self.curve
        joules = [epoch.joules for epoch in trained_here if epoch.joules is not None]
        optional = {name: getattr(self.asked, name) for name in ("confirms", "confirm_epochs", "merged_trial")}
        return {
            "trial": self.number,
            **network_row(self.network),
            "seed": self.asked.seed,
            **({"added_for": " against ".join(self.asked.added_for)} if self.asked.added_for else {}),
            "checkpoint": self.asked.checkpoint,
            **{name: value for name, value in optional.items() if value is not None},
            "state": self.state,
            "reason": self.reason,
            "source": self.source,
            "device": self.device,
            "epochs": len(self.curve),
            **{score.name: last and last.score(score.name) for score in scores},
            **_standard_error(last, scores[0]),
            "loss": last and last.loss,
            **zero_cost_columns(self.zero_cost),
            "seconds": sum(epoch.seconds for epoch in trained_here),
            **({"seconds_reused": sum(epoch.seconds for epoch in self.curve)} if self.source else {}),
            "seconds_waiting": sum(epoch.seconds_waiting for epoch in trained_here),
            "joules": sum(joules) if joules else None,
            **{name: getattr(last, name, None) for name in LAST_EPOCH},
            **{name: _values(self.curve, each) for name, each in zip(CURVES, (scores[0], scores[0].ema), strict=True)},
        }


def _standard_error(epoch: Epoch | None, score: Score) -> dict[str, float]:
    """Return the column of the standard error over images of a score, on the test images if there are some."""
    errors = epoch.standard_errors if epoch else {}
    known = [errors[name] for name in (score.test.name, score.name) if name in errors]
    return {STANDARD_ERROR: known[0]} if known else {}


def _values(curve: Sequence[Epoch], score: Score) -> list[float]:
    """Return the values of a score over a curve, without the epochs at which it was not measured."""
    return [value for epoch in curve if (value := epoch.score(score.name)) is not None]


def zero_cost_columns(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return zero-cost scores by the names of their columns."""
    return {ZERO_COST_PREFIX + name: score for name, score in scores.items()}


def network_row(network: NetworkFacts) -> dict[str, Any]:
    """Return the facts of a network as flat columns; columns without a value are left out."""
    stand_in = asdict(network.stand_in) if network.stand_in else {}
    stand_in.pop("recipe", None)
    plain = {each.name: getattr(network, each.name) for each in fields(network) if each.name != "stand_in"}
    optional = ("ms_per_image", "merged_from", "merged_name")
    return {name: value for name, value in plain.items() if value not in (None, "") or name not in optional} | {
        f"trained_{name}": value for name, value in stand_in.items()
    }


REPRODUCED = ("epoch", "loss", "lr", "scores", "test_scores", "standard_errors")  # fields of an epoch


def training_digest(trial: Trial) -> str:
    """Return the hash of network, side, seed, recipe and data, which is also the name of the checkpoint's folder."""
    folder: str = trial.asked.checkpoint.rpartition("/")[0]
    return folder.rpartition("/")[2]


def reproduced(curve: Sequence[Epoch]) -> list[tuple[Any, ...]]:
    """Return what a repeated training reproduces: everything but times, memory and energy."""
    return [tuple(getattr(epoch, name) for name in REPRODUCED) for epoch in curve]
