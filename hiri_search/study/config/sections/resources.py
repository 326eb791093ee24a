"""Resources of a trial: GPU, cores, the machines that fit, and the timeout."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from hiri_search.training.recipe import SettingError


class Needs(BaseModel, extra="forbid", frozen=True):
    """Requirements on a machine that runs trials."""

    accelerator: str | None = None  # Ray's name of a GPU model: H100, A100, L4, ...


class Resources(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Resources of each trial, and its timeout."""

    gpu: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None  # GPUs; auto: by measured memory; None: one
    # Processes that train one network together; None: as many as GPUs, or one
    processes: Annotated[int, Field(ge=1)] | None = None
    cpu: float | None = Field(default=None, gt=0)  # cores; None: one a process, or on a local GPU a share of the cores
    timeout: float = Field(default=1800, gt=0)  # seconds without a training step until a trial moves to another worker
    needs: Needs = Needs()

    @model_validator(mode="after")
    def _check_gpus(self) -> Resources:
        if isinstance(self.gpu, float) and self.gpu > 1 and self.gpu != int(self.gpu):
            problem = f"gpu={self.gpu} is not possible"
            raise SettingError("gpu", f"{problem}; write a whole number, or less than 1 for several trials on one GPU")
        by_gpus = max(1, int(self.gpu)) if isinstance(self.gpu, float) else 1
        if self.processes and self.gpu and self.processes != by_gpus:
            gpus = self.gpu if self.gpu == "auto" else f"{self.gpu:g}"
            problem = f"processes={self.processes} does not fit gpu={gpus}"
            raise SettingError("processes", f"{problem}: each process has a GPU of its own; leave one of them out")
        return self

    def processes_of_trial(self, *, on_gpus: bool) -> int:
        """Return how many processes train one network together, each on a GPU or on the CPU."""
        whole_gpus = int(self.gpu) if isinstance(self.gpu, float) else 1
        return self.processes or (max(1, whole_gpus) if on_gpus else 1)
