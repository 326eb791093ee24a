"""EMA distillation: targets against a literal reading of the equations; the teacher stays unchanged."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor, nn

from hiri_search.language import Net, SpecError, parse_net, parse_network
from hiri_search.nets.head import Head
from hiri_search.nets.hirivit import HiriVit, build_hirivit
from hiri_search.training.distill import check_teacher, distilled_targets, teacher_map
from hiri_search.training.mixup import Mixer, Mixing

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SIDE, BATCH, CLASSES = 32, 4, 5
NET = parse_net("hrstem(hs=8) -> hr(8 e=2) -> cffn(8 e=2) -> t(16 e=2 d=8)")
UNIT = 16  # input side at which the last grid has one position
MIXINGS = {
    "mixup": Mixing(0.3),
    "cutmix": Mixing(1 - 11 * 7 / SIDE**2, (3, 14, 20, 27)),
    "cutmix at the border": Mixing(1 - 20 * 32 / SIDE**2, (12, 32, 0, 32)),
    "empty box": Mixing(1.0, (9, 9, 2, 30)),
    "full box": Mixing(0.0, (0, SIDE, 0, SIDE)),
    "mixup share 1": Mixing(1.0),
    "mixup share 0": Mixing(0.0),
    "none": None,
}
Array = NDArray[np.float64]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def probabilities(grid: int, batch: int = BATCH) -> Tensor:
    return (3 * noise(batch, grid, grid, CLASSES, seed=1)).softmax(-1)


def soft_labels(seed: int = 2) -> Tensor:
    return noise(BATCH, CLASSES, seed=seed).softmax(-1)


def teacher(net: Net = NET) -> HiriVit:
    """Return a network whose BatchNorm statistics and weights differ from the initial ones."""
    torch.manual_seed(0)
    model = build_hirivit(net, classes=CLASSES, drop_path=0.5)
    for _ in range(3):
        model(4 * torch.randn(8, 3, SIDE, SIDE))
    for parameter in model.parameters():
        nn.init.normal_(parameter, parameter.mean().item(), 0.3)
    return model.eval()


# ---- the equations


def cell_mask(mixing: Mixing | None, grid: int) -> Array:
    """Return M, computed per pixel and averaged over each cell, with the exact part of each pixel inside the cell."""
    pixels = np.full((SIDE, SIDE), 1.0 if mixing is None else mixing.share)
    if mixing is not None and mixing.box is not None:
        for y, x in product(range(SIDE), repeat=2):
            top, bottom, left, right = mixing.box
            pixels[y, x] = 0.0 if top <= y < bottom and left <= x < right else 1.0
    fine = pixels.repeat(grid, 0).repeat(grid, 1)  # now each cell has SIDE x SIDE pixels
    cells = np.zeros((grid, grid))
    for row, column in product(range(grid), repeat=2):
        cells[row, column] = fine[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE].mean()
    return cells


def reference_targets(targets: Tensor, maps: Tensor, mixing: Mixing | None, alpha: float) -> Array:
    """Eq. 4-5, computed per image, position and class."""
    y, p = targets.double().numpy(), maps.double().numpy()
    batch, grid = len(p), p.shape[1]
    m = cell_mask(mixing, grid)
    result = np.zeros_like(y)
    for a, k in product(range(batch), range(CLASSES)):
        b = batch - 1 - a
        total = 0.0
        for i, j in product(range(grid), repeat=2):
            total += m[i, j] * p[a, i, j, k] + (1 - m[i, j]) * p[b, i, j, k]
        result[a, k] = alpha * y[a, k] + (1 - alpha) * total / grid**2
    return result


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("name", MIXINGS)
def test_targets_match_a_literal_reading_of_the_equations(name: str, grid: int) -> None:
    targets, maps, mixing = soft_labels(), probabilities(grid), MIXINGS[name]
    for alpha in (0.0, 0.4, 1.0):
        actual = distilled_targets(targets, maps, mixing, SIDE, alpha)
        np.testing.assert_allclose(actual.numpy(), reference_targets(targets, maps, mixing, alpha), atol=1e-6)


@pytest.mark.parametrize("name", MIXINGS)
def test_targets_are_probabilities(name: str) -> None:
    for alpha in (0.0, 0.5, 1.0):
        targets = distilled_targets(soft_labels(), probabilities(3), MIXINGS[name], SIDE, alpha)
        assert targets.dtype == torch.float32
        torch.testing.assert_close(targets.sum(1), torch.ones(BATCH))
        assert (targets >= 0).all()


@pytest.mark.parametrize("name", MIXINGS)
def test_alpha_1_gives_the_labels(name: str) -> None:
    assert torch.equal(distilled_targets(soft_labels(), probabilities(3), MIXINGS[name], SIDE, 1.0), soft_labels())


@pytest.mark.parametrize("name", MIXINGS)
def test_alpha_0_ignores_the_labels(name: str) -> None:
    first, second = (
        distilled_targets(soft_labels(seed), probabilities(3), MIXINGS[name], SIDE, 0.0) for seed in (2, 3)
    )
    assert torch.equal(first, second)


def test_extreme_shares_use_only_the_image_or_only_its_partner() -> None:
    maps = probabilities(3)
    own, partner = maps.mean((1, 2)), maps.flip(0).mean((1, 2))
    for name in ("empty box", "mixup share 1", "none"):
        assert torch.equal(distilled_targets(soft_labels(), maps, MIXINGS[name], SIDE, 0.0), own)
    for name in ("full box", "mixup share 0"):
        assert torch.equal(distilled_targets(soft_labels(), maps, MIXINGS[name], SIDE, 0.0), partner)


def test_a_perfect_teacher_reproduces_the_mixed_labels() -> None:
    """Its targets are the labels of the image and its partner, weighted by their area."""
    labels, rng = torch.tensor([0, 1, 2, 3]), RandomState(1)
    maps = torch.eye(CLASSES)[labels][:, None, None].expand(-1, 3, 3, -1)
    mix = Mixer(0.8, 1.0, 1.0, 0.0, CLASSES)
    for _ in range(20):
        mixed = mix(noise(BATCH, 3, SIDE, SIDE), labels, rng)
        torch.testing.assert_close(distilled_targets(mixed.targets, maps, mixed.mixing, SIDE, 0.0), mixed.targets)


def test_pixels_hidden_by_the_box_do_not_count() -> None:
    """The teacher predicts class 0 only in the upper left quarter of image 0; the box covers different quarters."""
    maps = torch.eye(CLASSES)[torch.tensor([4, 1, 2, 3])][:, None, None].repeat(1, 2, 2, 1)
    maps[0, 0, 0] = torch.eye(CLASSES)[0]
    half = SIDE // 2
    boxes = {
        "upper left": (0, half, 0, half),
        "upper right": (0, half, half, SIDE),
        "lower left": (half, SIDE, 0, half),
    }
    class_0 = {
        name: distilled_targets(soft_labels(), maps, Mixing(0.75, box), SIDE, 0.0)[:, 0].tolist()
        for name, box in boxes.items()
    }
    # Images 0 and 3 are partners: if the box covers the upper left quarter, image 3 contains it.
    assert class_0 == {
        "upper left": [0, 0, 0, 0.25],
        "upper right": [0.25, 0, 0, 0],
        "lower left": [0.25, 0, 0, 0],
    }


# ---- the teacher


def test_the_map_is_the_softmax_of_the_head_without_its_pool() -> None:
    model, images = teacher(), noise(BATCH, 3, SIDE, SIDE)
    maps = teacher_map(model, images)
    assert maps.shape == (BATCH, 2, 2, CLASSES)
    torch.testing.assert_close(maps.sum(-1), torch.ones(BATCH, 2, 2))
    unpooled = HiriVit(NET, num_classes=CLASSES, global_pool="").eval()
    unpooled.load_state_dict(model.state_dict())
    torch.testing.assert_close(maps, unpooled(images).softmax(-1))
    assert maps.flatten(1, 2).std(1).max() > 1e-3, "all positions are equal: the test would prove nothing"


def test_a_map_of_one_position_is_the_prediction() -> None:
    model, images = teacher(), noise(BATCH, 3, UNIT, UNIT)
    torch.testing.assert_close(teacher_map(model, images)[:, 0, 0], model(images).softmax(-1))


def test_constant_features_give_the_pooled_prediction_at_each_position() -> None:
    head = Head(16, CLASSES).train()
    head(noise(8, 16, 2, 2))
    features = noise(BATCH, 16, 1, 1).expand(-1, -1, 3, 5)
    everywhere = head.eval().everywhere(features)
    torch.testing.assert_close(everywhere, head(features)[:, None, None].expand(-1, 3, 5, -1))


def test_map_positions_match_image_positions() -> None:
    """A change in the lower left corner of the image changes the map most there; rows come first."""
    model, images = teacher(parse_net("convstem(hs=8) -> cffn(8 e=2) -> cffn(16 e=2)")), noise(1, 3, 64, 64)
    changed = images.clone()
    changed[..., 48:, :16] += 3
    change = (teacher_map(model, changed) - teacher_map(model, images)).abs().sum(-1)[0]
    row, column = divmod(int(change.argmax()), change.shape[1])
    assert row >= change.shape[0] * 3 // 4
    assert column < change.shape[1] // 4


def training_flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def partly_frozen(model: HiriVit) -> HiriVit:
    model.train()
    model.stages[0].eval()
    return model


MODES = {"eval": lambda model: model.eval(), "train": lambda model: model.train(), "partly frozen": partly_frozen}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pool", [True, False])
def test_the_teacher_stays_unchanged(mode: str, pool: bool) -> None:
    model = MODES[mode](teacher())
    model.head.pool = pool
    state, flags = copy.deepcopy(model.state_dict()), training_flags(model)
    assert any(name.endswith("num_batches_tracked") for name in state)
    first, second = (teacher_map(model, noise(BATCH, 3, SIDE, SIDE)) for _ in range(2))
    assert torch.equal(first, second), "stochastic depth or batch statistics are active"
    torch.testing.assert_close(first, teacher_map(teacher(), noise(BATCH, 3, SIDE, SIDE)))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert (training_flags(model), model.head.pool) == (flags, pool)


def test_an_error_in_the_teacher_restores_its_mode() -> None:
    model = teacher().train()
    with pytest.raises(RuntimeError):
        teacher_map(model, noise(BATCH, 2, SIDE, SIDE))
    assert all(training_flags(model))


def test_no_gradient_reaches_a_teacher_that_is_also_the_student() -> None:
    model, images = teacher().train(), noise(BATCH, 3, SIDE, SIDE)
    assert all(parameter.requires_grad for parameter in model.parameters())
    targets = distilled_targets(soft_labels(), teacher_map(model, images), MIXINGS["cutmix"], SIDE, 0.5)
    assert not targets.requires_grad
    student = torch.zeros(BATCH, CLASSES, requires_grad=True)
    nn.functional.cross_entropy(student, targets).backward()
    assert student.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())
    model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.numel() > 1)


def test_the_map_is_float32_under_autocast() -> None:
    model, images = teacher(), noise(BATCH, 3, SIDE, SIDE)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(images).dtype == torch.bfloat16
        maps = teacher_map(model, images)
        targets = distilled_targets(soft_labels(), maps, MIXINGS["cutmix"], SIDE, 0.5)
    assert maps.dtype == targets.dtype == torch.float32
    torch.testing.assert_close(maps.sum(-1), torch.ones(BATCH, 2, 2))
    torch.testing.assert_close(targets.sum(1), torch.ones(BATCH))


@pytest.mark.gpu
@on_gpu
def test_a_gpu_gives_the_same_targets() -> None:
    maps, mixing = probabilities(7), MIXINGS["cutmix"]
    on_cuda = distilled_targets(soft_labels().cuda(), maps.cuda(), mixing, SIDE, 0.3)
    torch.testing.assert_close(on_cuda.cpu(), distilled_targets(soft_labels(), maps, mixing, SIDE, 0.3))


def test_only_networks_of_the_language_can_be_teachers() -> None:
    check_teacher(NET)
    with pytest.raises(SpecError, match=r"'timm:pvt_v2_b0' cannot .*write a network of our language"):
        check_teacher(parse_network("timm:pvt_v2_b0"))
