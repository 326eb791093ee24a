"""Laws of all dense methods: their sizes, their outputs, their losses, and that each overfits eight images."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hiri_search.nets.dense.detectors.atss import ATSS
from hiri_search.nets.dense.detectors.cascade_rcnn import CascadeRCNN
from hiri_search.nets.dense.detectors.gfl import GFL
from hiri_search.nets.dense.detectors.mask_rcnn import MaskRCNN
from hiri_search.nets.dense.detectors.retinanet import RetinaNet
from hiri_search.nets.dense.detectors.sparse_rcnn import SparseRCNN
from hiri_search.nets.dense.upernet import UNLABELED, UPerNet
from tests.nets.dense.small import CLASSES, SmallBody, ap50, drawn_images

SMALL: dict[str, Callable[[], nn.Module]] = {
    "RetinaNet": lambda: RetinaNet(SmallBody(3), CLASSES, width=64, side=128, norms=True),
    "Mask R-CNN": lambda: MaskRCNN(SmallBody(4), CLASSES, width=64, side=128, norms=True, regions=64),
    "ATSS": lambda: ATSS(SmallBody(3), CLASSES, width=64, side=128, norms=True),
    "GFL": lambda: GFL(SmallBody(3), CLASSES, width=64, side=128, norms=True),
    "Cascade Mask R-CNN": lambda: CascadeRCNN(SmallBody(4), CLASSES, width=64, side=128, norms=True, regions=64),
    "Sparse R-CNN": lambda: SparseRCNN(SmallBody(4), CLASSES, width=64, norms=True, regions=12, heads=3),
}
METHODS = pytest.mark.parametrize("method", SMALL)


class HiriSmall(nn.Module):
    """A stand-in of HIRI-ViT-S at the paper's 1600 x 1200: its last maps, and nothing that is counted."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.channels, self.strides = (64, 128, 320, 512)[-maps:], (8, 16, 32, 64)[-maps:]

    def forward(self, images: Tensor) -> list[Tensor]:
        sizes = ((200, 150), (100, 75), (50, 38), (25, 19))[-len(self.channels) :]
        return [images.new_empty(1, c, *size) for c, size in zip(self.channels, sizes, strict=True)]


BODY_PARAMS, BODY_MACS = 30_881_216, 67_378_457_600  # of HIRI-ViT-S without its head


@pytest.mark.parametrize(
    ("method", "maps", "params"),
    [(ATSS, 3, 38_998_805), (GFL, 3, 39_144_020), (CascadeRCNN, 4, 88_896_126), (SparseRCNN, 4, 112_995_176)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_parameters_with_hirivit_small(method: type[nn.Module], maps: int, params: int):
    with torch.device("meta"):
        model = method(HiriSmall(maps), 80)
    assert sum(p.numel() for p in model.parameters()) + BODY_PARAMS == params


@pytest.mark.parametrize(("method", "macs"), [(ATSS, 123_104_855_040), (GFL, 124_562_181_120)])
def test_multiply_adds_of_one_stage_with_hirivit_small(method: type[nn.Module], macs: int):
    def forward(model: nn.Module) -> None:
        model.head(list(model.pyramid(torch.empty(1, 3, 1600, 1200)).values()))

    assert _macs(lambda: method(HiriSmall(3), 80), forward) == macs


def test_multiply_adds_of_cascade_rcnn_with_hirivit_small():
    def forward(model: nn.Module) -> None:
        model.rpn.head(list(model.pyramid(torch.empty(1, 3, 1600, 1200)).values()))
        for stage in model.stages:
            stage.box_predictor(stage.box_head(torch.empty(1000, 256, 7, 7)))
            stage.mask_predictor(stage.mask_head(torch.empty(100, 256, 14, 14)))

    assert _macs(lambda: CascadeRCNN(HiriSmall(4), 80), forward) == 661_155_813_120


def test_multiply_adds_of_sparse_rcnn_with_hirivit_small():
    def forward(model: nn.Module) -> None:
        model.pyramid(torch.empty(1, 3, 1600, 1200))
        for head in model.heads:
            head(torch.empty(300, 256, 7, 7), torch.empty(1, 300, 256))

    assert _macs(lambda: SparseRCNN(HiriSmall(4), 80), forward) == 118_769_126_400


def _macs(build: Callable[[], nn.Module], forward: Callable[[nn.Module], None]) -> int:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward(build())
    return counter.get_total_flops() // 2 + BODY_MACS


def _total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _values(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: loss.item() for name, loss in losses.items()}


@METHODS
def test_losses_reach_every_parameter_and_are_the_same_for_a_seed(method: str):
    model, (images, targets) = SMALL[method](), drawn_images(2)
    if isinstance(model, SparseRCNN):  # whole images are pooled from one level of the pyramid: here proposals of all
        model.boxes.weight.data[:, 2:] = torch.logspace(-1, 0.6, 12)[:, None]
    again = copy.deepcopy(model)
    torch.manual_seed(1)
    losses = model(images, targets)
    _total(losses).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []
    torch.manual_seed(1)
    assert _values(again(images, targets)) == _values(losses)


@METHODS
@torch.no_grad()
def test_detections_have_the_shapes_and_ranges_of_the_convention(method: str):
    found = SMALL[method]().eval()(torch.randn(2, 3, 120, 88))  # grids of 30 x 22 to 4 x 3: two are rounded up
    assert len(found) == 2
    for one in found:
        boxes, scores, labels = one["boxes"], one["scores"], one["labels"]
        assert boxes.shape == (len(scores), 4)
        assert labels.shape == scores.shape
        assert labels.dtype == torch.int64
        assert ((labels >= 0) & (labels < CLASSES)).all()
        assert ((scores >= 0) & (scores <= 1)).all()
        assert ((boxes >= 0) & (boxes <= torch.tensor([88, 120, 88, 120]))).all()


@METHODS
@pytest.mark.parametrize("empty", [(0,), (0, 1)], ids=["one of two", "all"])
def test_images_without_objects_give_finite_losses_and_gradients(method: str, empty: tuple[int, ...]):
    model, (images, targets) = SMALL[method](), drawn_images(2)
    for n in empty:
        targets[n] = {name: value[:0] for name, value in targets[n].items()}
    _total(model(images, targets)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@METHODS
def test_an_ignored_object_counts_as_none(method: str):
    model, (images, targets) = SMALL[method](), drawn_images(2)
    torch.manual_seed(1)
    without = copy.deepcopy(model)(images, [{name: value[1:] for name, value in t.items()} for t in targets])
    torch.manual_seed(1)
    ignored = model(images, [{**t, "ignored": torch.arange(len(t["labels"])) == 0} for t in targets])
    assert _values(ignored) == _values(without)


@METHODS
def test_a_diverged_network_has_a_loss_that_is_not_finite(method: str):
    model, (images, targets) = SMALL[method](), drawn_images(2)
    body = next(each for each in model.modules() if isinstance(each, SmallBody))
    nn.init.constant_(body.convs[0][0].weight, torch.nan)
    assert not _total(model(images, targets)).isfinite()
    assert len(model.eval()(images)) == 2


@METHODS
def test_bfloat16_autocast_is_close_to_float32(method: str):
    model, (images, targets) = SMALL[method](), drawn_images(2)
    torch.manual_seed(1)
    exact = _total(copy.deepcopy(model)(images, targets))
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = _total(model(images, targets))
        with torch.no_grad():
            found = model.eval()(images)
    assert {each[name].dtype for each in found for name in ("boxes", "scores")} == {torch.float32}
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0)


# Steps and learning rate; the proposals of Cascade R-CNN need the most to find each object.
TRAININGS = {
    "RetinaNet": (60, 1e-3),
    "Mask R-CNN": (80, 2e-3),
    "ATSS": (60, 1e-3),
    "GFL": (60, 1e-3),
    "Cascade Mask R-CNN": (80, 2e-3),
    "Sparse R-CNN": (120, 1e-3),
}


@pytest.mark.slow
@METHODS
def test_overfits_eight_images(method: str):
    model, (images, targets), (steps, lr) = SMALL[method](), drawn_images(8), TRAININGS[method]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        _total(model(images, targets)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
    with torch.no_grad():
        found = model.eval()(images)
    assert ap50(found, targets) > 0.9
    assert "masks" not in found[0] or ap50(found, targets, "masks") > 0.9


def _semantic(targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return the class of each pixel: 0 is background, and the first rows are not judged."""
    maps = []
    for target in targets:
        semantic = torch.zeros(target["masks"].shape[1:], dtype=torch.int64)
        for mask, label in zip(target["masks"], target["labels"], strict=True):
            semantic[mask > 0] = 1 + label
        semantic[:4] = UNLABELED
        maps.append({"semantic": semantic})
    return maps


def test_a_pixel_that_is_not_judged_changes_no_loss_of_upernet():
    model, (images, targets) = UPerNet(SmallBody(4), 1 + CLASSES, width=32), drawn_images(2)
    wanted = _semantic(targets)
    torch.manual_seed(1)
    losses = copy.deepcopy(model)(images, wanted)
    torch.manual_seed(1)
    logits = {}
    model.head.register_forward_hook(lambda _, __, out: logits.update(head=out))
    model(images, wanted)
    shown = nn.functional.interpolate(logits["head"], images.shape[-2:], mode="bilinear")
    surprise = -shown.log_softmax(1)[:, :, 4:]
    classes = torch.stack([target["semantic"] for target in wanted])[:, None, 4:]
    judged = surprise.gather(1, classes)
    torch.testing.assert_close(losses["pixels"], judged.mean())
    nothing = [{"semantic": torch.full_like(each["semantic"], UNLABELED)} for each in wanted]
    assert _total(model(images, nothing)) == 0


@pytest.mark.slow
def test_upernet_overfits_eight_images():
    model, (images, targets) = UPerNet(SmallBody(4), 1 + CLASSES, width=64), drawn_images(8)
    wanted, steps, lr = _semantic(targets), 80, 2e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        _total(model(images, wanted)).backward()
        optimizer.step()
    with torch.no_grad():
        predicted = model.eval()(images).argmax(1)
    truth = torch.stack([target["semantic"] for target in wanted])
    judged = truth != UNLABELED
    ious = []
    for label in range(1 + CLASSES):
        ours, theirs = (predicted == label) & judged, truth == label
        ious.append((ours & theirs).sum() / (ours | theirs).sum())
    assert torch.stack(ious).mean() > 0.9
