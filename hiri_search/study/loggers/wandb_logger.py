"""Runs of Weights & Biases: one for each trial, in its online or its offline mode."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hiri_search.study.config.sections.loggers import WandbConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import WANDB
from hiri_search.study.loggers.run_record import Point, RunRecord

if TYPE_CHECKING:
    from wandb import Run

_COMPLETE = "hiri_search.digest"  # file in the folder of a run that is complete: the digest of its record
_NO_KEY = "there is no API key: run `wandb login`, set WANDB_API_KEY, or write log: {wandb: {mode: offline}}"


@dataclass
class _OpenRun:
    run: Run
    points: list[Point]  # that were written


class WandbLogger:
    """Writes runs to W&B's server, or in its offline mode to folders that `wandb sync` uploads.

    Online, a run that is there is continued. Offline, the folder of an interrupted run is written anew, because W&B
    continues no such folder: one folder holds all epochs.
    """

    label = "W&B"

    def __init__(self, config: WandbConfig, study: str, folder: Path) -> None:
        """`folder` is the results folder. StudyError where W&B is online and has no API key."""
        self._config = config
        self._project = config.project or os.environ.get("WANDB_PROJECT") or study
        self._folder = Path(os.environ.get("WANDB_DIR") or folder)
        self._mode: Any = config.mode or os.environ.get("WANDB_MODE") or "online"  # which W&B checks
        self._open: dict[str, _OpenRun] = {}  # by the id of their record
        if self._mode in ("online", "shared"):
            _check_key()

    @property
    def destination(self) -> str:
        """Where the runs are."""
        return f"project {self._project}" if self._mode == "online" else str(self._folder / WANDB)

    def write(self, run: RunRecord) -> None:
        """Bring a run up to date. wandb.Error where W&B refuses it; without a connection W&B itself keeps trying."""
        if self._mode == "disabled":
            return
        there, points = self._open.get(run.id), list(run.curve)
        if there is None and any(_digest_in(folder) == run.digest for folder in self._folders(run.id)):
            return
        if there and there.points != points[: len(there.points)]:  # an epoch was trained again, with other digits
            self._finish(run.id, 1)
            there = None
        try:
            self._log(there or self._begun(run), points, run)
        except BaseException:  # such as the end of W&B's own process: begin again
            self._open.pop(run.id, None)
            raise

    def _log(self, there: _OpenRun, points: Sequence[Point], run: RunRecord) -> None:
        """Write the points that an open run lacks; end it where no epoch follows."""
        for point in points[len(there.points) :]:
            if point.step >= there.run.step:  # online, the server has the earlier steps
                there.run.log(point.values, step=point.step, commit=True)
            there.points.append(point)
        if not run.running:
            there.run.summary.update({"state": run.trial.state, "reason": run.trial.reason})
            folder = Path(there.run.dir).parent
            self._finish(run.id, int(run.trial.state == "failed"))
            (folder / _COMPLETE).write_text(run.digest)

    def close(self) -> None:
        """End the runs that are open."""
        for run_id in list(self._open):
            self._finish(run_id, 1)

    def _begun(self, run: RunRecord) -> _OpenRun:
        import wandb

        offline = self._mode != "online"
        for folder in self._folders(run.id) if offline else ():
            shutil.rmtree(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        begun = wandb.init(
            id=run.id,
            name=run.name,
            project=self._project,
            entity=self._config.entity,
            group=run.study,
            notes=run.title,
            config={**run.parameters, "trial": run.trial.number, "ledger": run.ledger, "source": run.trial.source},
            dir=self._folder,
            mode=self._mode,
            resume=None if offline else "allow",
            reinit="create_new",  # trials run side by side
            settings=wandb.Settings(
                console="off", silent=True, x_disable_stats=True, disable_git=True, save_code=False
            ),
        )
        self._open[run.id] = there = _OpenRun(begun, [])
        return there

    def _finish(self, run_id: str, code: int) -> None:
        self._open.pop(run_id).run.finish(exit_code=code)

    def _folders(self, run_id: str) -> list[Path]:
        """Return the folders of a run on this machine: of its mode, which is in their name."""
        prefix = "run" if self._mode == "online" else "offline-run"
        return sorted((self._folder / WANDB).glob(f"{prefix}-*-{run_id}"))


def _digest_in(folder: Path) -> str:
    path = folder / _COMPLETE
    return path.read_text() if path.exists() else ""


def _check_key() -> None:
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    if not wandb.login(prompt=False, verify=False):
        raise StudyError(f"log: wandb: {_NO_KEY}")
