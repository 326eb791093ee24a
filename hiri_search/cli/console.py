"""Terminal output: live table, tables of costs and latencies."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console as RichConsole
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hiri_search.cli.output import lossy
from hiri_search.system.text import printable, printable_lines
from hiri_search.system.units import GIGA, MEGA
from hiri_search.training.score import CLASSIFICATION

if TYPE_CHECKING:
    from hiri_search.cost.flops import Cost
    from hiri_search.cost.latency.benchmark import Latency
    from hiri_search.cost.latency.forward import DoesNotFit
    from hiri_search.language import Network
    from hiri_search.language.dense_network import InputSize
    from hiri_search.study.config.schema import StudyConfig
    from hiri_search.study.ledger.trial import Trial
    from hiri_search.study.plan.plan import Plan

TEXT_COLUMNS = ("row", "verdict", "note")  # columns of a table of the paper that are not numbers
PIPED_WIDTH = 300  # characters of a line that goes to a file or a pipe
SWIN = "Swin-T"  # to which the paper's throughputs are best compared: machines differ
MAX_LIVE_ROWS = 20  # trials in the live table: the running ones first, then the newest


class Console:
    """Progress of a study on the terminal: a live table, or lines of text in a pipe. No output stops a study."""

    def __init__(self, study: StudyConfig | None = None) -> None:
        """`study` is the one that runs; None: messages alone."""
        self.study, self.score = study, study.headline if study else CLASSIFICATION.scores[0]
        # A duplicate of standard output, which stays on the terminal while Ray's output is redirected to a log.
        self._file = lossy(os.dup(sys.stdout.fileno()), sys.stdout.encoding)
        self.rich = RichConsole(file=self._file, soft_wrap=True)
        self.trials: dict[int, Trial] = {}
        self.started = time.monotonic()
        self.live: Live | None = None

    def __del__(self) -> None:
        self._file.close()

    def __enter__(self) -> Console:
        if self._file.isatty():  # rich takes a pipe for a terminal where FORCE_COLOR is set
            self.live = Live(console=self.rich, get_renderable=self._table, refresh_per_second=2)
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    def say(self, text: str) -> None:
        self.rich.print(Text(printable_lines(text)))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; the first column and columns without a name are text, the others numbers."""
        table = Table(box=box.SIMPLE, show_edge=False)
        for index, name in enumerate(columns):
            table.add_column(_cell(name), justify="right" if index and name else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(_cell, row))
        RichConsole(file=self._file, width=None if self._file.isatty() else PIPED_WIDTH).print(table)

    def plan(self, plan: Plan) -> None:
        """Print a plan: its trials by network, and the times of its parts."""
        from hiri_search.study.plan.plan import PLAN_COLUMNS, plan_lines, plan_table

        self.table(PLAN_COLUMNS, plan_table(plan))
        for line in plan_lines(plan):
            self.say(line)

    def on_trial(self, trial: Trial) -> None:
        """Show the state of a trial that has begun, ended an epoch, or ended."""
        self.trials[trial.number] = trial
        if self.live is None:
            name = f"{trial.network.name}  seed {trial.asked.seed}"
            self.say(
                printable(
                    f"{self._elapsed()}  trial {trial.number}  {self._state(trial)}  {self._score(trial)}  {name}"
                )
            )

    def _state(self, trial: Trial) -> str:
        """Return the state of a trial in words, such as `epoch 3 of 12, 5 min 20 s left`."""
        if trial.state == "failed":
            return f"failed: {trial.reason}"
        if trial.state != "unfinished" or not trial.curve:
            return trial.state if trial.state != "unfinished" else "begins"
        if self.study is None or self.study.search.halving:
            return f"epoch {len(trial.curve)}"
        from hiri_search.study.eta import progress_of
        from hiri_search.study.plan.plan import duration

        epochs, seconds = progress_of(self.study, trial)
        return f"epoch {len(trial.curve)} of {epochs}, {duration(seconds)} left"

    def _score(self, trial: Trial) -> str:
        value = self._value(trial)
        return (
            f"loss {trial.curve[-1].loss:.3f}  {self.score.label} {value} {self.score.unit}".rstrip() if value else ""
        )

    def _value(self, trial: Trial) -> str:
        """Return the last score of a trial; empty where there is none."""
        value = trial.curve[-1].score(self.score.name) if trial.curve else None
        return "" if value is None else f"{value:.{self.score.digits}f}"

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self.started:6.0f} s"

    def _table(self) -> Table:
        states = Counter(trial.state for trial in self.trials.values())
        title = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        table = Table(box=box.SIMPLE, title=f"{self._elapsed().strip()}: {title or 'starting'}", title_justify="left")
        for name in ("trial", "network", "seed", "GFLOPs", "M params", "epoch", "loss", self.score.label, "state"):
            table.add_column(name, justify="left" if name in ("network", "state") else "right", no_wrap=True)
        by_interest = sorted(self.trials.values(), key=lambda trial: (trial.state != "unfinished", -trial.number))
        for trial in sorted(by_interest[:MAX_LIVE_ROWS], key=lambda trial: trial.number):
            cells = _cells(trial, self._value(trial) or "-", self._state(trial))
            table.add_row(*map(_cell, cells))
        return table


def _title(text: str) -> Text:
    return Text(printable(text), "table.title")


def _cell(text: str) -> Text:
    """Return a text as it is: rich takes brackets in a string for markup."""
    return Text(printable(text))


def _cells(trial: Trial, score: str, state: str) -> list[str]:
    network, last = trial.network, trial.curve[-1] if trial.curve else None
    return [
        str(trial.number),
        network.name[:48],
        str(trial.asked.seed),
        f"{network.macs / GIGA:.3f}",
        f"{network.params / MEGA:.2f}",
        str(len(trial.curve)),
        f"{last.loss:.3f}" if last else "-",
        score,
        state,
    ]


def print_agreement(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the paper's numbers next to ours, and the number of rows by verdict."""
    table = Table(box=box.SIMPLE, title=_title(title), title_justify="left", show_edge=False)
    for name in columns:
        table.add_column(_cell(name), justify="left" if name in TEXT_COLUMNS else "right", no_wrap=name != "note")
    for row in rows:
        table.add_row(*map(_cell, row))
    verdicts = Counter(row[columns.index("verdict")] for row in rows)
    # Wide in a pipe, so that each row is on one line.
    RichConsole(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
    print(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))


def print_latencies(measured: Iterable[tuple[str, Latency | DoesNotFit]], *, as_json: bool) -> None:
    """Print latencies as a table, or as one line of JSON for each network."""
    if as_json:
        for name, latency in measured:
            print(json.dumps({"network": name, **asdict(latency)}))
        return
    table, rows = Table(box=box.SIMPLE), list(measured)
    ratios = _ratios_to_swin(rows)
    for name in ("network", "side", "batch", "ms/image", "images/s", *ratios, "spread %", "rounds", ""):
        table.add_column(name, justify="left" if name in ("network", "") else "right", overflow="fold")
    for index, (name, latency) in enumerate(rows):
        cells = _latency_cells(latency)
        cells[4:4] = [column[index] for column in ratios.values()]
        table.add_row(*map(_cell, (name, *cells)))
        machine = getattr(latency, "conditions", None) and latency.conditions.machine  # type: ignore[union-attr]
        if machine:
            table.caption = _cell(f"{machine.device}, {machine.threads} thread(s), torch {machine.torch}")
    RichConsole(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def _ratios_to_swin(rows: Sequence[tuple[str, Latency | DoesNotFit]]) -> dict[str, list[str]]:
    """Return columns of throughputs over that of Swin-T, ours and the paper's, where Swin-T is measured by its name."""
    speeds = {name: getattr(latency, "images_per_second", None) for name, latency in rows}
    if not (base := speeds.get(SWIN)):
        return {}
    from hiri_search.paper.published import relative_throughput

    names = [(name.partition("@")[0].strip(), getattr(latency, "side", 0)) for name, latency in rows]
    published = [relative_throughput(name, side, SWIN) for name, side in names]
    return {
        f"over {SWIN}": [f"{speed / base:.2f}" if speed else "-" for speed in speeds.values()],
        "in the paper": [f"{ratio:.2f}" if ratio else "-" for ratio in published],
    }


def _latency_cells(latency: Latency | DoesNotFit) -> list[str]:
    from hiri_search.cost.latency.forward import DoesNotFit

    if isinstance(latency, DoesNotFit):
        return ["-"] * 6 + [latency.reason]
    numbers = [f"{latency.ms_per_image:.3f}", f"{latency.images_per_second:.1f}", f"{100 * latency.spread:.1f}"]
    doubt = "" if latency.settled else "not settled: time limit reached, or the machine is busy"
    return [str(latency.side), str(latency.batch), *numbers, str(latency.repeats), doubt]


def print_cost(net: Network, side: InputSize, parts: dict[str, Cost], *, as_json: bool) -> None:
    """Print the cost of a network by part, as a table or as JSON with stable keys."""
    total, by_part = _totals(parts.values()), {name: _totals([cost]) for name, cost in parts.items()}
    if as_json:
        print(json.dumps({**total, "parts": by_part, "spec": str(net), "key": net.key, "side": side}, indent=2))
        return
    table = Table(box=box.SIMPLE, title=_title(f"{net} @ {side}"), title_justify="left")
    for name in ("part", "params", "macs", "core macs"):
        table.add_column(name, justify="left" if name == "part" else "right")
    *_, last = parts
    for name, numbers in (by_part | {"total": total}).items():
        table.add_row(name, *(f"{number:,}" for number in numbers.values()), end_section=name == last)
    RichConsole(soft_wrap=not sys.stdout.isatty()).print(table)


def _totals(costs: Collection[Cost]) -> dict[str, int]:
    return {name: sum(getattr(cost, name) for cost in costs) for name in ("params", "macs", "core_macs")}
