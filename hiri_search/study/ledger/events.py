"""Events of the ledger."""

from __future__ import annotations

from typing import Any

TIME = "time"  # of a line: seconds since 1970 by the clock of the machine that wrote it


GO_ON = "when that is mended, the same command goes on"


MERGED = "merged"  # the event that the trials of another results folder follow


Event = dict[str, Any]  # one line: {"event": "asked" | "epoch" | "finished" | ..., ...}


PLANNED, RUN_ENDED = "planned", "ended"  # events of the ledger: a plan, and what a run then took by its parts
