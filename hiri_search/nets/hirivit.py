"""HiriVit: any Net as one `nn.Module` with timm's model interface.

Annotations are objects, not text, because TorchScript reads those of a network that torch.fx has traced.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from math import sqrt
from typing import Any, TypeVar

import torch
from timm.layers import Format, get_device_dtype, nchw_to, trunc_normal_
from timm.models import checkpoint_seq, named_apply
from timm.models._features import feature_take_indices
from torch import Tensor, linspace, nn

from hiri_search.language.net import Net
from hiri_search.language.stages import Stage
from hiri_search.nets.head import Head, PrunedHead, classifier
from hiri_search.nets.pieces import IMAGE_CHANNELS, BlockPiece, StemPiece, down_piece
from hiri_search.system.units import PAPER_SIDE

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class HiriStage(nn.Module):
    """A downsampling to a `grid`, and a block for each entry of `drop_paths`."""

    def __init__(self, previous: Stage | None, stage: Stage, grid: int, drop_paths: Sequence[float]) -> None:
        super().__init__()
        stride = stage.stride or 1
        self.downsample = nn.Identity() if previous is None else down_piece(previous, stage).build(grid * stride)
        piece = BlockPiece.of(stage)
        self.blocks = nn.Sequential(*(piece.build(grid, drop_path=rate) for rate in drop_paths))
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:  # (B, Ci, H, W) -> (B, C, H/s, W/s)
        x = self.downsample(x)
        if self.grad_checkpointing and self.training and not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return checkpoint_seq(self.blocks, x)  # type: ignore[no-any-return]
        return self.blocks(x)  # type: ignore[no-any-return]


class HiriVit(nn.Module):
    """The classifier of a Net: (B, 3, side, side) -> (B, num_classes).

    `drop_path_rate` is the stochastic depth of the last block; it grows linearly from 0 at the first block.
    `global_pool=""` classifies each position: (B, H, W, num_classes). `img_size` is the side of the inputs, or height
    and width, as timm writes it, for blocks that are built for one grid; by default the first valid side from 448 on.
    `device` and `dtype` are those of the parameters.
    """

    def __init__(
        self,
        net: Net,
        *,
        num_classes: int = 1000,
        in_chans: int = IMAGE_CHANNELS,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        img_size: int | Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.net, self.num_classes, self.in_chans, self.drop_rate = net, num_classes, in_chans, drop_rate
        depths = [stage.depth for stage in net.stages]
        rates = iter(linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        drop_paths = [list(islice(rates, depth)) for depth in depths]
        self.num_features = net.stages[-1].width
        side = net.side_from(PAPER_SIDE) if img_size is None else _side(img_size)
        with torch.device(device) if device else nullcontext():
            self.stem = StemPiece(net.stem, net.stages[0].width, in_chans).build(side)
            self.stages = nn.Sequential(*map(HiriStage, (None, *net.stages), net.stages, net.grids(side), drop_paths))
            self.head = Head(self.num_features, num_classes, pool=_pooled(global_pool), drop=drop_rate)
        self.head_hidden_size = self.head.hidden
        self.feature_info = [
            {"num_chs": stage.width, "reduction": stride, "module": f"stages.{index}"}
            for index, (stage, stride) in enumerate(zip(net.stages, net.strides, strict=True))
        ]
        named_apply(initialise, self)
        self.to(dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        self.head.check_batch(x)
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, side, side) -> (B, C5, H, W), the input of the head and its norm."""
        return self.stages(self.stem(x))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, C5, H, W) -> (B, num_classes), or (B, 5*C5) with `pre_logits`."""
        return self.head(x, pre_logits)  # type: ignore[no-any-return]

    def forward_map(self, x: Tensor) -> Tensor:
        """(B, 3, side, side) -> (B, H, W, num_classes), with or without a pool: the teacher's map of Eq. 4-5."""
        return self.head.everywhere(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer, and a pruned head; with 0 classes the output is the head's hidden features."""
        pool = self.head.pool if global_pool is None else _pooled(global_pool)
        if isinstance(self.head, Head):
            self.head.pool, self.head.fc = pool, self._new(classifier(self.head.hidden, num_classes))
        elif num_classes:
            self.head = self._new(Head(self.num_features, num_classes, pool=pool, drop=self.drop_rate))
            self.head_hidden_size = self.head.hidden
        self.num_classes = num_classes

    def _new(self, module: ModuleT) -> ModuleT:
        """Initialise a module, and give it the device, dtype and mode of the network."""
        named_apply(initialise, module)
        return module.to(**get_device_dtype(self)).train(self.training)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the output of `forward_features`, and maps of some stages; with `intermediates_only` only these.

        `indices` are those of the stages, or the number of the last ones; None takes all. `norm` applies the head's
        norm to the map of the last stage. `stop_early` leaves out the stages that no map needs. `output_fmt` is that of
        the maps: NCHW, NHWC, NLC or NCL.
        """
        layout = Format(output_fmt)
        taken, last = feature_take_indices(len(self.stages), indices)
        x, maps = self.stem(x), []
        for index, stage in enumerate(self.stages[: last + 1] if stop_early else self.stages):
            x = stage(x)
            if index in taken:
                final = norm and index == len(self.stages) - 1
                maps.append(nchw_to(self.head.norm(x) if final else x, layout))
        return maps if intermediates_only else (x, maps)

    def get_intermediate_layers(
        self, x: Tensor, n: int | Sequence[int] = 1, reshape: bool = False, norm: bool = False
    ) -> list[Tensor]:
        """Return the maps of the last `n` stages, or of the stages `n`: (B, H*W, C), or with `reshape` (B, C, H, W)."""
        output_fmt = "NCHW" if reshape else "NLC"
        return self.forward_intermediates(x, n, norm, output_fmt=output_fmt, intermediates_only=True)  # type: ignore[return-value]

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages after the last of `indices`, and the head, which is sized for the last stage.

        Where all stages stay, `prune_head` and `prune_norm` choose what else goes. Returns the indices from the first.
        """
        taken, last = feature_take_indices(len(self.stages), indices)
        shorter = last + 1 < len(self.stages)
        self.stages, self.net = self.stages[: last + 1], replace(self.net, stages=self.net.stages[: last + 1])
        if prune_norm or shorter:
            self.head.norm = nn.Identity()
        if prune_head or shorter:
            self.head, self.num_classes = PrunedHead(self.head.norm), 0  # type: ignore[assignment]
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        return taken  # type: ignore[no-any-return]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass: less memory, more time."""
        for stage in self.stages:
            assert isinstance(stage, HiriStage)
            stage.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Return the names that blocks with a method `no_weight_decay` give; timm itself excludes biases and norms."""
        names: set[str] = set()
        for prefix, module in self.named_modules():
            if module is not self and callable(own := getattr(module, "no_weight_decay", None)):
                names |= {f"{prefix}.{name}" for name in own()}
        return names

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return parameter groups for timm's layer-wise learning rate decay."""
        fine = [(r"^stages\.(\d+)\.downsample", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else fine}


def build_hirivit(net: Net, side: int | None = None, *, classes: int = 1000, drop_path: float = 0.0) -> HiriVit:
    """Build the module of a network for square inputs of `side` pixels; without it as `HiriVit` does."""
    return HiriVit(net, num_classes=classes, drop_path_rate=drop_path, img_size=side)


def _side(img_size: int | Sequence[int]) -> int:
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if height != width:
        raise ValueError(f"img_size={height}x{width} is not supported; height and width must be equal")
    return height


def _pooled(global_pool: str) -> bool:
    if global_pool not in ("avg", ""):
        raise ValueError(f"global_pool={global_pool!r} is not possible; write 'avg', or '' to classify each position")
    return global_pool == "avg"


def initialise(module: nn.Module, name: str = "") -> None:
    """Initialise weights as timm's PVTv2 and Swin: truncated normal for FCs, fan-out for spatial convolutions.

    A module with a method `init_weights`, of the user's own kind of block, calls it after its children are initialised.
    """
    if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
        trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        fan_out = height * width * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0.0, sqrt(2.0 / fan_out))
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if callable(own := getattr(module, "init_weights", None)):
        own()
