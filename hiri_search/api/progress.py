"""A progress bar of a study, in a terminal or a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from tqdm.auto import tqdm

from hiri_search.study.eta import networks_wanted, trials_wanted
from hiri_search.system.text import printable, printable_lines

if TYPE_CHECKING:
    from hiri_search.study.config.schema import StudyConfig
    from hiri_search.study.ledger.trial import Trial


class ProgressBar:
    """Shows messages, and a bar of the trials that end in this run, with the last score."""

    def __init__(self, study: StudyConfig) -> None:
        self.score, self.study = study.headline, study
        self.wanted = trials_wanted(study, networks_wanted(study, ()))
        self.ended: set[int] = set()
        self.bar: Any = None  # tqdm has no types

    def __enter__(self) -> Self:
        self.bar = tqdm(total=self.wanted, unit="trial", desc=printable(self.study.title[:40]) or "trials")
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        self.bar = None

    def say(self, text: str) -> None:
        """Print a message above the bar."""
        tqdm.write(printable_lines(text))

    def on_trial(self, trial: Trial) -> None:
        """Count a trial that has ended, and show the last score of one that trains."""
        if trial.curve and (value := trial.curve[-1].score(self.score.name)) is not None:
            place = f"{trial.network.name[:24]}, epoch {len(trial.curve)}"
            self.bar.set_postfix_str(printable(f"{place}: {self.score.label} {value:.{self.score.digits}f}"))
        if trial.ended and trial.number not in self.ended:
            self.ended.add(trial.number)
            self.bar.update()
