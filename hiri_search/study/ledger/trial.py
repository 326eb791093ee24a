"""Trial: the state that a trial's events lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hiri_search.study.ledger.events import Event

ENDED_STATES = ("finished", "failed", "stopped")


@dataclass
class Trial:
    """One network x seed x recipe, as its events tell it."""

    number: int
    asked: Event  # name, key, spec, params, macs, core_macs, seed, ...: what it is
    state: str = "unfinished"  # | finished | failed | paused on a rung | stopped there for good
    rung: int = 0  # the last one that it went on from: so many epochs
    reason: str = ""  # of failing
    source: str = ""  # where its curve is from, if it was not trained: `trial 3`, or that of another results folder
    curve: list[dict[str, Any]] = field(default_factory=list)  # by epoch
    zero_cost: dict[str, float | None] = field(default_factory=dict)  # of zero-cost proxies
    lost: int = 0  # so often since its last epoch
    alone: bool = False  # it did not fit on a device that it shared
    device: str = ""  # that it was last trained on

    def apply(self, event: Event) -> None:
        """Move on by one event."""
        match event["event"]:
            case "finished":
                self.state, self.curve, self.source = "finished", event["curve"], event.get("source", "")
            case "failed":
                self.state, self.reason = "failed", event["reason"]
            case "retried":
                self.state, self.reason, self.lost = "unfinished", "", 0
            case "paused":
                self.state, self.curve = "paused", event["curve"]
            case "promoted":
                self.state, self.rung = "unfinished", len(self.curve)
            case "stopped":
                self.state, self.reason = "stopped", event.get("reason", "")
            case _:
                self._learn(event)

    def _learn(self, event: Event) -> None:
        """What leaves the state as it is."""
        facts = {name: value for name, value in event.items() if name not in ("event", "trial")}
        match event["event"]:
            case "began":
                self.device = event["device"]
            case "scored":
                self.zero_cost = event["scores"]
            case "epoch":
                # An epoch that is told again takes the place of the first telling.
                self.curve, self.lost = [*self.curve[: event["epoch"] - 1], facts], 0
            case "lost":
                self.lost += 1
            case "crowded":
                self.alone = True

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ENDED_STATES

    @property
    def is_confirmation(self) -> bool:
        """Whether it trains longer what another trial has trained before."""
        return "confirms" in self.asked

    def row(self) -> dict[str, Any]:
        """Flat, for tables."""
        last = self.curve[-1] if self.curve else {}
        scores = {name: last.get(name) for name in ("top1", "top5", "ema_top1", "ema_top5", "loss")}
        facts = {name: value for name, value in self.asked.items() if name not in ("event", "trial", "decisions")}
        # Ledgers of an earlier version do not tell all of it.
        spent = [] if self.source else self.curve
        sums = {name: sum(epoch.get(name, 0.0) for epoch in spent) for name in ("seconds", "seconds_waiting")}
        told = [joules for epoch in spent if (joules := epoch.get("joules")) is not None]
        ends = {name: last.get(name) for name in ("images_per_second", "parts", "peak_memory_bytes")}
        return {
            "trial": self.number,
            **facts,
            "state": self.state,
            "reason": self.reason,
            "source": self.source,
            "device": self.device,
            "epochs": len(self.curve),
            **scores,
            **{f"zero_cost_{name}": score for name, score in self.zero_cost.items()},
            **sums,
            "joules": sum(told) if told else None,
            **ends,
            "curve": [epoch["top1"] for epoch in self.curve],
        }


REPRODUCED_COLUMNS = ("epoch", "loss", "lr", "top1", "top5", "ema_top1", "ema_top5")


def training_digest(trial: Trial) -> str:
    """Of all that decides what it comes to: network, side, seed, recipe and data, by which its checkpoint is named."""
    folder: str = trial.asked["checkpoint"].rpartition("/")[0]
    return folder.rpartition("/")[2]


def reproduced(curve: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What one training has alike whenever it is trained: all but how long it took, and with how much memory."""
    return [{name: epoch.get(name) for name in REPRODUCED_COLUMNS} for epoch in curve]
