"""`timm:grouped_of_tests`: a small network registered with timm, for spaces over its arguments."""

from typing import Any

from timm.models import register_model
from torch import nn

_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class Grouped(nn.Module):
    """A convolutional network; widths that the groups do not divide cannot be built."""

    def __init__(
        self, num_classes: int, width: int = 6, groups: int = 1, depth: int = 1, act: str = "relu", in_chans: int = 3
    ) -> None:
        super().__init__()
        first = nn.Conv2d(in_chans, width, 3, stride=2)
        others = (nn.Conv2d(width, width, 1, groups=groups) for _ in range(depth))
        self.body = nn.Sequential(first, _ACTIVATIONS[act](), *others)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Any) -> Any:
        return self.head(self.body(images).mean((2, 3)))


@register_model
def grouped_of_tests(pretrained: bool = False, **arguments: Any) -> nn.Module:
    own = {"num_classes", "width", "groups", "depth", "act", "in_chans"}
    return Grouped(**{name: value for name, value in arguments.items() if name in own})
