"""Study: an ablation or a search as an object, from a study file or from its keys."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias, Unpack

from hiri_search.api.running import Runner, after_run, profile_for, results_folder, start_fresh
from hiri_search.api.study_keys import StudyKeys, plain_values
from hiri_search.study.config.choices import file_rows
from hiri_search.study.config.files.base import BY_HARDWARE
from hiri_search.study.config.files.set_option import as_sets
from hiri_search.study.config.files.shipped import find_study
from hiri_search.study.config.files.yaml_file import Tree
from hiri_search.study.config.read import profiles_of, read_study_file, study_of
from hiri_search.study.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from hiri_search.api.results import StudyResults
    from hiri_search.study.callbacks import Display

Overrides: TypeAlias = Mapping[str, object] | Sequence[str]  # {"recipe.epochs": 3}, or texts as of --set


class Study:
    """A study: an ablation of named networks, or a search of a space.

    It is checked when it is made: networks, sides and settings. `hiri_search.StudyError` says what is wrong, and what
    to write instead. `run` trains what the results folder lacks, as the command `hiri-search run` does: both write the
    same ledger, and each goes on where the other stopped.
    """

    def __init__(self, *, profile: str = BY_HARDWARE, override: Overrides = (), **keys: Unpack[StudyKeys]) -> None:
        """Make a study from the keys of a study file; paths in it are relative to the working folder.

        `profile`: the profile laid over the other keys; `auto` is `gpu` on a machine with a GPU, else `laptop`, where
        the study has it. `override`: settings over both, such as {"recipe.epochs": 3}.
        """
        self.file: Path | None = None
        self._read(Tree(Path("Study"), plain_values(keys), {}), profile, override)

    @classmethod
    def from_yaml(cls, study: str | Path, *, profile: str = BY_HARDWARE, override: Overrides = ()) -> Self:
        """Read a study file, or a shipped study by its name, such as `block_mix`."""
        made = cls.__new__(cls)
        made.file = find_study(Path(study))
        made._read(read_study_file(made.file), profile, override)
        return made

    def _read(self, tree: Tree, profile: str, override: Overrides) -> None:
        self.profile = profile_for(profiles_of(tree), profile)
        self.config = study_of(tree, profile=self.profile, sets=as_sets(override))

    def __repr__(self) -> str:
        kind = "search" if self.config.space else f"ablation of {len(file_rows(self.config.nets or {}))} networks"
        return f"<Study {self.config.title or self.file or kind!r}: {kind}, profile {self.profile}>"

    @property
    def default_folder(self) -> Path:
        """The results folder where none is given: results/NAME of the study file. StudyError without a named file."""
        if self.file is None:
            raise StudyError("this study has no file that names its results; give a folder, as in run('results/mine')")
        return results_folder(self.file)

    def networks(self) -> pd.DataFrame:
        """Count the networks of an ablation at full size: a row for each, with its spec, side, params and GFLOPs.

        StudyError for a search, which has no rows before it runs.
        """
        import pandas as pd

        from hiri_search.cost.flops import count
        from hiri_search.study.config.choices import row_of
        from hiri_search.study.config.networks import resolve
        from hiri_search.system.units import GIGA, MEGA

        if self.config.space is not None:
            raise StudyError("networks() is for an ablation; sample a space with hiri_search.sample")
        nets, rows = self.config.nets or {}, []
        for name, row in {row_of(nets, row.name): row for row in resolve(self.config).rows}.items():
            cost = count(row.network, row.side, classes=self.config.counted.classes)
            costs = {"params (M)": cost.params / MEGA, "GFLOPs": cost.macs / GIGA}
            rows.append({"network": name, "spec": str(row.network), "side": row.side, **costs})
        return pd.DataFrame(rows)

    def plan(self, results: str | Path | None = None, *, slots: int = 0, serial: bool = False) -> pd.DataFrame:
        """Estimate trials, costs and hours from short trainings on this machine, as `run --plan` does."""
        import pandas as pd

        from hiri_search.api.progress import ProgressBar
        from hiri_search.study.plan.plan import PLAN_COLUMNS, plan_lines, plan_table

        display = ProgressBar(self.config)
        plan = Runner(slots, serial).plan(self.config, Path(results or self.default_folder), display.say)
        for line in plan_lines(plan):
            display.say(line)
        return pd.DataFrame(plan_table(plan), columns=list(PLAN_COLUMNS))

    def run(
        self,
        results: str | Path | None = None,
        *,
        slots: int = 0,
        serial: bool = False,
        address: str | None = None,
        fresh: bool = False,
        retry_failed: bool = False,
        display: Display | None = None,
    ) -> StudyResults:
        """Train the trials that the results folder lacks, write the report, and return the results.

        An interrupted run (Ctrl-C, or the stop button of a notebook) ends after the running epochs with the results so
        far; the same call continues it.

        results: folder of the results; default: results/NAME of the study file.
        slots: trials side by side; 0: as many as the hardware allows.
        serial: train one trial after the other in this process, without Ray.
        address: of a Ray cluster, `auto` or HOST:PORT; None: a local Ray.
        fresh: rename an existing results folder, and start again.
        retry_failed: train failed trials again.
        display: shows messages and trials; None: a progress bar.
        """
        from hiri_search.api.progress import ProgressBar
        from hiri_search.api.results import load_results

        folder, runner = (
            Path(results or self.default_folder),
            Runner(slots, serial, address, retry_failed, self.profile, sys.argv),
        )
        runner.check(self.config)
        display = display or ProgressBar(self.config)
        if fresh:
            start_fresh(self.config, folder, self.file, display.say)
        runner.run(self.config, folder, display)
        after_run(self.config, folder, display.say)
        return load_results(folder)
