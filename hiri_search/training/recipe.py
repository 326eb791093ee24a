"""Recipe: every hyperparameter of a training, with unit and source."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

RecipeValue: TypeAlias = bool | int | float  # of a hyperparameter that is no text


class SettingError(ValueError):
    """An invalid setting; `name` is its key within its section, and the message begins with this key."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Recipe:
    """AdamW with a linear warm-up and a decay of the learning rate, and the augmentation of section 5.1.

    The paper trains 300 epochs at batch 1,024 and learning rate 1e-3. The defaults here suit a short training, where
    strong augmentation lowers the accuracy.
    """

    # Read by pydantic when it reads a study: unknown keys are errors. This module does not import pydantic.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    epochs: int = 12
    batch: int = 64  # images per step; even, because CutMix and Mixup pair images
    lr: float = (
        2e-3  # peak, of the network at full width (`Job.lr`); not scaled by the batch (the paper: 1e-3 at 1,024)
    )
    min_lr: float = 1e-5  # learning rate at the end of the decay, and at the beginning of the warm-up
    schedule: str = "cosine"  # decay: cosine, linear, or `step 8 11`: to a tenth after each of these epochs
    warmup_epochs: float = 1.0  # the paper: 5 of 300
    weight_decay: float = 0.05  # not applied to biases and norms
    clip: float = 1.0  # maximum gradient norm; 0: no clipping
    drop_path: float = 0.0  # stochastic depth rate of the last block
    label_smoothing: float = 0.1
    mixup: float = 0.0  # alpha of the Beta distribution; 0: off (the paper uses Mixup; timm's usual alpha is 0.8)
    cutmix: float = 0.0  # alpha; 0: off (timm's usual alpha is 1.0)
    mix_share: float = 1.0  # share of the batches that are mixed
    erasing: float = 0.0  # share of images with a random rectangle erased
    crop: float = 0.35  # smallest share of an image's area that a random crop keeps
    min_scale: float = 1.0  # detection, segmentation: smallest scale of an image; `crop` gives the largest, crop**-0.5
    flip: float = 0.5  # share of images flipped horizontally
    jitter: float = 0.0  # strength of colour jitter
    auto_augment: str = ""  # timm policy, such as rand-m9-mstd0.5-inc1 (the paper uses RandAugment); empty: none
    ema: float = 0.99  # decay of the exponential moving average of the weights; 0: no average
    ema_warmup: bool = True  # let the decay grow from 0, so that a short training's average forgets the initial weights
    distill_alpha: float = 1.0  # alpha of Eq. 5: weight of the labels against the teacher's map; 1: no distillation
    # File with the initial weights, as for timm's checkpoint_path; RESULTS#TRIAL, or RESULTS for each row its own
    # network's there; empty: random weights.
    weights: str = ""
    pretrained: bool | str = False  # begin from timm's weights of the network; true: the default ones; text: their tag
    bf16: bool = True  # autocast, on CUDA only
    compile: bool = False  # with torch.compile; the compile time is reported separately
    cuda_graphs: bool = False  # CUDA graphs, with `compile` and on CUDA only; faster for small networks
    checkpointing: bool = False  # activation checkpointing: recompute blocks for the gradient; less memory, more time
    deterministic: bool = False  # bit-for-bit repeatable on CUDA, and slower; always so on the CPU
    sync_bn: bool = (
        True  # BatchNorm over the whole batch where several processes train one network; false: each its own
    )
    workers: int = 0  # processes that load images for one trial; 0: the trial process loads them

    def __post_init__(self) -> None:
        for name, (is_valid, requirement) in BOUNDS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and is_valid(value)):
                raise SettingError(name, f"{name}={value} is not possible; it must be {requirement}")
        if self.warmup_epochs >= self.epochs:
            problem = f"warmup_epochs={self.warmup_epochs} is not possible"
            raise SettingError("warmup_epochs", f"{problem}; it must be less than epochs={self.epochs}")
        self._check_schedule()
        if self.distill_alpha < 1 and not self.ema:
            raise SettingError("distill_alpha", "distill_alpha needs a teacher, the moving average; write ema: 0.99")
        if self.pretrained and self.weights:
            raise SettingError("pretrained", f"pretrained beside weights={self.weights}; leave one of them out")
        if self.cuda_graphs and not self.compile:
            raise SettingError("cuda_graphs", "cuda_graphs needs a compiled network; write compile: true too")

    @property
    def milestones(self) -> tuple[int, ...]:
        """The epochs after each of which the learning rate falls to a tenth; none of a smooth decay."""
        return tuple(map(int, self.schedule.split()[1:]))

    def _check_schedule(self) -> None:
        if not _SCHEDULE.fullmatch(self.schedule):
            known = "cosine, linear, or step with epochs, such as step 8 11"
            raise SettingError("schedule", f"schedule={self.schedule!r} is not known; write {known}")
        if any(later <= earlier for earlier, later in pairwise((0, *self.milestones, self.epochs))):
            problem = f"schedule={self.schedule!r} is not possible"
            needs = f"its epochs must rise, and be less than epochs={self.epochs}; write others, or cosine"
            raise SettingError("schedule", f"{problem}; {needs}")


_SCHEDULE = re.compile(r"cosine|linear|step( \d{1,7})+", re.ASCII)
_Bound = tuple[Callable[[float], bool], str]
_NOT_NEGATIVE: _Bound = (lambda value: value >= 0, "0 or more")
_UNDER_ONE: _Bound = (lambda value: 0 <= value < 1, "at least 0 and less than 1")
_ZERO_TO_ONE: _Bound = (lambda value: 0 <= value <= 1, "from 0 to 1")
BOUNDS: dict[str, _Bound] = {
    "epochs": (lambda value: 0 < value <= 10**6, "1 to 1,000,000"),
    "lr": (lambda value: value > 0, "more than 0"),
    "workers": (lambda value: 0 <= value <= 1000, "0 to 1,000"),
    **dict.fromkeys(("min_lr", "warmup_epochs", "weight_decay", "clip", "mixup", "cutmix", "jitter"), _NOT_NEGATIVE),
    **dict.fromkeys(("drop_path", "label_smoothing", "ema"), _UNDER_ONE),
    **dict.fromkeys(("mix_share", "erasing", "flip", "distill_alpha"), _ZERO_TO_ONE),
    **dict.fromkeys(("crop", "min_scale"), (lambda value: 0 < value <= 1, "more than 0 and at most 1")),
    "batch": (lambda value: value > 0 and value % 2 == 0, "even and more than 0: CutMix and Mixup pair images"),
}
