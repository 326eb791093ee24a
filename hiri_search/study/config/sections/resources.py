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
    cpu: float | None = Field(default=None, gt=0)  # cores; None: one, or on a local GPU an equal share of the cores
    timeout: float = Field(default=1800, gt=0)  # seconds without a training step until a trial moves to another worker
    needs: Needs = Needs()

    @model_validator(mode="after")
    def _check_gpus(self) -> Resources:
        if isinstance(self.gpu, float) and self.gpu > 1 and self.gpu != int(self.gpu):
            raise SettingError("gpu", f"gpu={self.gpu} is not possible; write 1, or less for several trials on one GPU")
        return self
