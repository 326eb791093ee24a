"""Code of a user: blocks of its own in a file, and what imports it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hiri_search import user_code
from hiri_search.language.stages import DOWNSAMPLINGS, KINDS, make_part

HEAD = """
from dataclasses import dataclass
import torch
from torch import nn
from hiri_search.kinds import Downsampling, Rule, SpecError, Stage, Stem, number, register, word
"""
MIX = """
@register
@dataclass(frozen=True, kw_only=True)
class Mix(Stage):
    kind = "mix"
    kernel: int = number("k", 7, default=3)
    groups: int = number("g", 64, scales=True, default=8)
    form: str = word("form", "dw", "full", default="dw")

    def block(self, grid, *, drop_path=0.0):
        groups = self.width if self.form == "dw" else self.groups
        conv = nn.Conv2d(self.width, self.width, self.kernel, 1, self.kernel // 2, groups=groups)
        return nn.Sequential(conv, nn.GELU())
"""
NETWORK = """
from timm.models import register_model

class MyNetwork(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.norm(self.stem(x)).relu().mean((2, 3)))

@register_model
def my_network(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **arguments):
    return MyNetwork(**arguments)
"""


def write_blocks(folder: Path, text: str = MIX, name: str = "my_blocks.py") -> Path:
    """Write a file with blocks, and return its path."""
    (folder / name).write_text(HEAD + text)
    return folder / name


def forget_code() -> None:
    """Take away the code that was imported last, with its kinds."""
    user_code._loaded.replace(user_code.UserCode(), {}, [])


@contextmanager
def own_kinds() -> Iterator[None]:
    """Remove the kinds and modules that the block registers."""
    kinds, downsamplings = dict(KINDS), dict(DOWNSAMPLINGS)
    try:
        yield
    finally:
        forget_code()
        for registry, before in ((KINDS, kinds), (DOWNSAMPLINGS, downsamplings)):
            registry.clear()
            registry.update(before)
        make_part.cache_clear()
