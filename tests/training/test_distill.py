"""EMA distillation: the equations read literally, and that nothing of the teacher moves."""

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
UNIT = 16  # the side at which the last grid is one position
MIXINGS = {
    "mixup": Mixing(0.3),
    "cutmix": Mixing(1 - 11 * 7 / SIDE**2, (3, 14, 20, 27)),
    "cutmix to the edge": Mixing(1 - 20 * 32 / SIDE**2, (12, 32, 0, 32)),
    "empty box": Mixing(1.0, (9, 9, 2, 30)),
    "whole box": Mixing(0.0, (0, SIDE, 0, SIDE)),
    "mixup of nothing": Mixing(1.0),
    "mixup of all": Mixing(0.0),
    "none": None,
}
Array = NDArray[np.float64]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def probabilities(grid: int, batch: int = BATCH) -> Tensor:
    return (3 * noise(batch, grid, grid, CLASSES, seed=1)).softmax(-1)


def shares(seed: int = 2) -> Tensor:
    return noise(BATCH, CLASSES, seed=seed).softmax(-1)


def teacher(net: Net = NET) -> HiriVit:
    """With statistics and weights that are not those of the start."""
    torch.manual_seed(0)
    model = build_hirivit(net, classes=CLASSES, drop_path=0.5)
    for _ in range(3):
        model(4 * torch.randn(8, 3, SIDE, SIDE))
    for parameter in model.parameters():
        nn.init.normal_(parameter, parameter.mean().item(), 0.3)
    return model.eval()


# ---- the equations


def cell_mask(mixing: Mixing | None, grid: int) -> Array:
    """M pixel by pixel, then the mean over each cell, a pixel counted for as much as lies in it."""
    pixels = np.full((SIDE, SIDE), 1.0 if mixing is None else mixing.share)
    if mixing is not None and mixing.box is not None:
        for y, x in product(range(SIDE), repeat=2):
            top, bottom, left, right = mixing.box
            pixels[y, x] = 0.0 if top <= y < bottom and left <= x < right else 1.0
    fine = pixels.repeat(grid, 0).repeat(grid, 1)  # now each cell is SIDE x SIDE of these
    cells = np.zeros((grid, grid))
    for row, column in product(range(grid), repeat=2):
        cells[row, column] = fine[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE].mean()
    return cells


def literal(targets: Tensor, maps: Tensor, mixing: Mixing | None, alpha: float) -> Array:
    """Eq. 4-5, one image, one position, one class at a time."""
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
def test_targets_are_the_equations_read_literally(name: str, grid: int) -> None:
    targets, maps, mixing = shares(), probabilities(grid), MIXINGS[name]
    for alpha in (0.0, 0.4, 1.0):
        found = distilled_targets(targets, maps, mixing, SIDE, alpha)
        np.testing.assert_allclose(found.numpy(), literal(targets, maps, mixing, alpha), atol=1e-6)


@pytest.mark.parametrize("name", MIXINGS)
def test_targets_and_mixed_maps_are_shares(name: str) -> None:
    for alpha in (0.0, 0.5, 1.0):
        found = distilled_targets(shares(), probabilities(3), MIXINGS[name], SIDE, alpha)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.sum(1), torch.ones(BATCH))
        assert (found >= 0).all()


@pytest.mark.parametrize("name", MIXINGS)
def test_alpha_1_leaves_the_labels_as_they_are(name: str) -> None:
    assert torch.equal(distilled_targets(shares(), probabilities(3), MIXINGS[name], SIDE, 1.0), shares())


@pytest.mark.parametrize("name", MIXINGS)
def test_alpha_0_is_the_teacher_alone(name: str) -> None:
    one, other = (distilled_targets(shares(seed), probabilities(3), MIXINGS[name], SIDE, 0.0) for seed in (2, 3))
    assert torch.equal(one, other)


def test_at_the_ends_a_image_is_all_its_own_or_all_its_partners() -> None:
    maps = probabilities(3)
    own, partner = maps.mean((1, 2)), maps.flip(0).mean((1, 2))
    for name in ("empty box", "mixup of nothing", "none"):
        assert torch.equal(distilled_targets(shares(), maps, MIXINGS[name], SIDE, 0.0), own)
    for name in ("whole box", "mixup of all"):
        assert torch.equal(distilled_targets(shares(), maps, MIXINGS[name], SIDE, 0.0), partner)


def test_sure_and_right_everywhere_the_teacher_says_what_the_labels_say() -> None:
    """It says them as they are mixed: with the images' partners, and by the share of the area."""
    labels, rng = torch.tensor([0, 1, 2, 3]), RandomState(1)
    sure = torch.eye(CLASSES)[labels][:, None, None].expand(-1, 3, 3, -1)
    mix = Mixer(0.8, 1.0, 1.0, 0.0, CLASSES)
    for _ in range(20):
        mixed = mix(noise(BATCH, 3, SIDE, SIDE), labels, rng)
        torch.testing.assert_close(distilled_targets(mixed.targets, sure, mixed.mixing, SIDE, 0.0), mixed.targets)


def test_what_the_box_hides_is_not_taught() -> None:
    """The teacher sees class 0 in the first image's upper left quarter alone; the box lies on another quarter."""
    maps = torch.eye(CLASSES)[torch.tensor([4, 1, 2, 3])][:, None, None].repeat(1, 2, 2, 1)
    maps[0, 0, 0] = torch.eye(CLASSES)[0]
    half = SIDE // 2
    quarter = {
        "upper left": (0, half, 0, half),
        "upper right": (0, half, half, SIDE),
        "lower left": (half, SIDE, 0, half),
    }
    seen = {
        name: distilled_targets(shares(), maps, Mixing(0.75, box), SIDE, 0.0)[:, 0].tolist()
        for name, box in quarter.items()
    }
    # Images 0 and 3 are partners: where the box covers that quarter, it is image 3 that shows it.
    assert seen == {
        "upper left": [0, 0, 0, 0.25],
        "upper right": [0.25, 0, 0, 0],
        "lower left": [0.25, 0, 0, 0],
    }


# ---- the teacher


def test_the_map_holds_probabilities_of_the_pooled_heads_layers() -> None:
    model, images = teacher(), noise(BATCH, 3, SIDE, SIDE)
    found = teacher_map(model, images)
    assert found.shape == (BATCH, 2, 2, CLASSES)
    torch.testing.assert_close(found.sum(-1), torch.ones(BATCH, 2, 2))
    unpooled = HiriVit(NET, num_classes=CLASSES, global_pool="").eval()
    unpooled.load_state_dict(model.state_dict())
    torch.testing.assert_close(found, unpooled(images).softmax(-1))
    assert found.flatten(1, 2).std(1).max() > 1e-3, "the positions say the same: the test is blind"


def test_on_one_position_the_map_is_the_prediction() -> None:
    model, images = teacher(), noise(BATCH, 3, UNIT, UNIT)
    torch.testing.assert_close(teacher_map(model, images)[:, 0, 0], model(images).softmax(-1))


def test_of_a_image_that_is_the_same_everywhere_each_position_says_what_the_pool_says() -> None:
    head = Head(16, CLASSES).train()
    head(noise(8, 16, 2, 2))
    features = noise(BATCH, 16, 1, 1).expand(-1, -1, 3, 5)
    everywhere = head.eval().everywhere(features)
    torch.testing.assert_close(everywhere, head(features)[:, None, None].expand(-1, 3, 5, -1))


def test_positions_are_those_of_the_image() -> None:
    """What changes in the image's lower left corner changes most there: rows first."""
    model, images = teacher(parse_net("convstem(hs=8) -> cffn(8 e=2) -> cffn(16 e=2)")), noise(1, 3, 64, 64)
    changed = images.clone()
    changed[..., 48:, :16] += 3
    moved = (teacher_map(model, changed) - teacher_map(model, images)).abs().sum(-1)[0]
    row, column = divmod(int(moved.argmax()), moved.shape[1])
    assert row >= moved.shape[0] * 3 // 4
    assert column < moved.shape[1] // 4


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def partly_frozen(model: HiriVit) -> HiriVit:
    model.train()
    model.stages[0].eval()
    return model


MADE = {"eval": lambda model: model.eval(), "train": lambda model: model.train(), "partly frozen": partly_frozen}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("pool", [True, False])
def test_nothing_of_the_teacher_changes(made: str, pool: bool) -> None:
    model = MADE[made](teacher())
    model.head.pool = pool
    before, training = copy.deepcopy(model.state_dict()), modes(model)
    assert any(name.endswith("num_batches_tracked") for name in before)
    first, again = (teacher_map(model, noise(BATCH, 3, SIDE, SIDE)) for _ in range(2))
    assert torch.equal(first, again), "stochastic depth or the batch has a say"
    torch.testing.assert_close(first, teacher_map(teacher(), noise(BATCH, 3, SIDE, SIDE)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (modes(model), model.head.pool) == (training, pool)


def test_a_teacher_that_fails_is_left_as_it_was() -> None:
    model = teacher().train()
    with pytest.raises(RuntimeError):
        teacher_map(model, noise(BATCH, 2, SIDE, SIDE))
    assert all(modes(model))


def test_no_gradient_reaches_the_teacher_though_it_be_the_student() -> None:
    model, images = teacher().train(), noise(BATCH, 3, SIDE, SIDE)
    assert all(parameter.requires_grad for parameter in model.parameters())
    targets = distilled_targets(shares(), teacher_map(model, images), MIXINGS["cutmix"], SIDE, 0.5)
    assert not targets.requires_grad
    student = torch.zeros(BATCH, CLASSES, requires_grad=True)
    nn.functional.cross_entropy(student, targets).backward()
    assert student.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())
    model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.numel() > 1)


def test_the_map_is_in_single_precision_though_the_network_be_not() -> None:
    model, images = teacher(), noise(BATCH, 3, SIDE, SIDE)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(images).dtype == torch.bfloat16
        found = teacher_map(model, images)
        targets = distilled_targets(shares(), found, MIXINGS["cutmix"], SIDE, 0.5)
    assert found.dtype == targets.dtype == torch.float32
    torch.testing.assert_close(found.sum(-1), torch.ones(BATCH, 2, 2))
    torch.testing.assert_close(targets.sum(1), torch.ones(BATCH))


@pytest.mark.gpu
@on_gpu
def test_on_a_gpu_it_gives_the_same() -> None:
    maps, mixing = probabilities(7), MIXINGS["cutmix"]
    there = distilled_targets(shares().cuda(), maps.cuda(), mixing, SIDE, 0.3)
    torch.testing.assert_close(there.cpu(), distilled_targets(shares(), maps, mixing, SIDE, 0.3))


def test_only_networks_of_the_language_teach_themselves() -> None:
    check_teacher(NET)
    with pytest.raises(SpecError, match=r"'timm:pvt_v2_b0' cannot .*write a network of our language"):
        check_teacher(parse_network("timm:pvt_v2_b0"))
