"""What a person sees while a study runs: one live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console as RichConsole
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from hiri_search.cost.counts import Cost
    from hiri_search.language import Net
    from hiri_search.study.ledger import Trial

SHOWN = 20  # trials in the live table, the running ones and the newest


class Console:
    """Shows the trials of a study; writes to the terminal even while Ray's own output goes to a file."""

    def __init__(self) -> None:
        # A copy of standard output, which stays where it is while the original is turned into a log.
        self._file = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
        self.rich = RichConsole(file=self._file, soft_wrap=True)
        self.trials: dict[int, Trial] = {}
        self.started = time.monotonic()
        self.live: Live | None = None

    def __del__(self) -> None:
        self._file.close()

    def __enter__(self) -> Console:
        if self.rich.is_terminal:
            self.live = Live(console=self.rich, get_renderable=self._table, refresh_per_second=2)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    def say(self, text: str) -> None:
        self.rich.print(text, markup=False, highlight=False)

    def moved(self, trial: Trial) -> None:
        """A trial has begun, come to the end of an epoch, or ended."""
        self.trials[trial.number] = trial
        if self.live is None:
            self.say(
                f"{self._elapsed()}  trial {trial.number}  {_state(trial)}  {_score(trial)}  {_label(trial)}".rstrip()
            )

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self.started:6.0f} s"

    def _table(self) -> Table:
        states = Counter(trial.state for trial in self.trials.values())
        title = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        table = Table(box=box.SIMPLE, title=f"{self._elapsed().strip()}: {title or 'starting'}", title_justify="left")
        for name in ("trial", "network", "seed", "GFLOPs", "M params", "epoch", "loss", "top-1", "state"):
            table.add_column(name, justify="left" if name in ("network", "state") else "right", no_wrap=True)
        ordered = sorted(self.trials.values(), key=lambda trial: (trial.state != "unfinished", -trial.number))
        for trial in sorted(ordered[:SHOWN], key=lambda trial: trial.number):
            table.add_row(*_cells(trial))
        return table


def _cells(trial: Trial) -> list[str]:
    asked, last = trial.asked, trial.curve[-1] if trial.curve else None
    return [
        str(trial.number),
        asked["name"][:48],
        str(asked["seed"]),
        f"{asked['macs'] / 1e9:.3f}",
        f"{asked['params'] / 1e6:.2f}",
        str(len(trial.curve)),
        f"{last['loss']:.3f}" if last else "-",
        f"{last['top1']:.2f}" if last else "-",
        _state(trial),
    ]


def _state(trial: Trial) -> str:
    if trial.state == "unfinished":
        return f"epoch {len(trial.curve)}" if trial.curve else "begins"
    return f"failed: {trial.reason}" if trial.state == "failed" else trial.state


def _score(trial: Trial) -> str:
    last = trial.curve[-1] if trial.curve else None
    return f"loss {last['loss']:.3f}  top-1 {last['top1']:.2f} %" if last else ""


def _label(trial: Trial) -> str:
    return f"{trial.asked['name']}  seed {trial.asked['seed']}"


def print_cost(net: Net, side: int, parts: dict[str, Cost], *, as_json: bool) -> None:
    """A network's cost by part, for people or as stable JSON."""
    total = _numbers(parts.values())
    if as_json:
        by_part = {name: _numbers([cost]) for name, cost in parts.items()}
        print(json.dumps({**total, "parts": by_part, "spec": str(net), "key": net.key, "side": side}, indent=2))
        return
    table = Table(box=box.SIMPLE, title=f"{net} @ {side}", title_justify="left")
    for name in ("part", "params", "macs", "core macs"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for name, numbers in [*((name, _numbers([cost])) for name, cost in parts.items()), ("total", total)]:
        table.add_row(name, *(f"{number:,}" for number in numbers.values()), end_section=name == "head")
    RichConsole(soft_wrap=not sys.stdout.isatty()).print(table)


def _numbers(costs: Any) -> dict[str, int]:
    costs = list(costs)
    return {name: sum(getattr(cost, name) for cost in costs) for name in ("params", "macs", "core_macs")}
