"""Recipe: every hyperparameter of a training, with unit and source."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


class SettingError(ValueError):
    """A setting that cannot be; `name` is its key below that of the section, and the message begins with it."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Recipe:
    """AdamW with linear warm-up and a cosine, and the augmentation of section 5.1.

    The paper trains 300 epochs at batch 1,024 and learning rate 1e-3; the defaults here are those of a short
    training, where strong augmentation costs more than it gives.
    """

    # Unknown keys are refused where a study is read; this floor does not know pydantic.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    epochs: int = 12
    batch: int = 64  # images a step; even, because CutMix and Mixup pair them
    lr: float = 2e-3  # highest learning rate, for this batch as it is (the paper: 1e-3 at 1,024)
    min_lr: float = 1e-5  # where the cosine ends
    warmup_epochs: float = 1.0  # the paper: 5 of 300
    weight_decay: float = 0.05  # not on biases and norms
    clip: float = 1.0  # highest gradient norm; 0: no clipping
    drop_path: float = 0.0  # stochastic depth of the last block
    label_smoothing: float = 0.1
    mixup: float = 0.0  # alpha of the Beta distribution; 0: off (the paper uses Mixup; timm's usual alpha is 0.8)
    cutmix: float = 0.0  # alpha; 0: off (timm's usual alpha is 1.0)
    mix_share: float = 1.0  # share of batches that are mixed at all
    erasing: float = 0.0  # share of images with a random rectangle erased
    crop: float = 0.35  # smallest share of a image's area that a random crop keeps
    flip: float = 0.5  # share of images mirrored
    jitter: float = 0.0  # strength of colour jitter
    auto_augment: str = ""  # a policy of timm, such as rand-m9-mstd0.5-inc1 (the paper uses RandAugment)
    ema: float = 0.99  # decay of the weights' moving average; 0: none
    ema_warmup: bool = True  # the decay grows from 0, so that the average of a short training is not its beginning
    distill_alpha: float = 1.0  # Eq. 5's alpha, the share of the labels beside the teacher's map; 1: no distillation
    weights: str = ""  # a checkpoint that the training begins with, of any side; empty: random weights
    bf16: bool = True  # autocast, on CUDA only
    compile: bool = False  # by torch.compile; the time that takes is told apart
    cuda_graphs: bool = False  # with compile, on CUDA: all kernels launched at once; pays for small networks
    checkpointing: bool = False  # each block is computed again for its gradient: less memory, more time
    deterministic: bool = False  # on CUDA bit for bit, and slower; on the CPU it always is
    workers: int = 0  # processes that load images for one trial; 0: the trial itself

    def __post_init__(self) -> None:
        for name, (holds, wanted) in BOUNDS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and holds(value)):
                raise SettingError(name, f"{name}={value} is not possible; it must be {wanted}")
        if self.warmup_epochs >= self.epochs:
            found = f"warmup_epochs={self.warmup_epochs} is not possible"
            raise SettingError("warmup_epochs", f"{found}; it must be under epochs={self.epochs}")
        if self.distill_alpha < 1 and not self.ema:
            raise SettingError("distill_alpha", "distill_alpha wants a teacher: the moving average, and ema is 0")
        if self.cuda_graphs and not self.compile:
            raise SettingError("cuda_graphs", "cuda_graphs wants a compiled network; write compile: true beside it")


Bound = tuple[Callable[[float], bool], str]
POSITIVE: Bound = (lambda value: value > 0, "more than 0")
NOT_NEGATIVE: Bound = (lambda value: value >= 0, "0 or more")
UNDER_ONE: Bound = (lambda value: 0 <= value < 1, "from 0 to under 1")
ZERO_TO_ONE: Bound = (lambda value: 0 <= value <= 1, "from 0 to 1")
BOUNDS: dict[str, Bound] = {
    **dict.fromkeys(("epochs", "lr"), POSITIVE),
    **dict.fromkeys(("min_lr", "warmup_epochs", "weight_decay", "clip", "mixup", "cutmix"), NOT_NEGATIVE),
    **dict.fromkeys(("jitter", "workers"), NOT_NEGATIVE),
    **dict.fromkeys(("drop_path", "label_smoothing", "ema"), UNDER_ONE),
    **dict.fromkeys(("mix_share", "erasing", "flip", "distill_alpha"), ZERO_TO_ONE),
    "crop": (lambda value: 0 < value <= 1, "more than 0 and at most 1"),
    "batch": (lambda value: value > 0 and value % 2 == 0, "even and more than 0: CutMix and Mixup pair images"),
}
