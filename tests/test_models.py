"""timm models of this package: the paper's networks, any spec, and Table 9's backbones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf
from torchvision.ops import FeaturePyramidNetwork

from hiri_search.language import SpecError
from hiri_search.models import HR_FRONT_LAYERS, SPECS, paper_net

HEADS = {
    "hirivit_small": [5, 8],
    "hirivit_base": [5, 10],
    "hirivit_large": [7, 10],
}

SIX = "hrstem(hs=8) -> hr(8 e=2) -> hr(8 e=2) -> hr(16 e=2) -> cffn(16 e=2) -> t(32 e=2 d=16) -> t(48 e=2 d=16)"
FIVE = "convstem(hs=8) -> hr(8 e=2) -> hr(16 e=2) -> cffn(24 e=2) -> t(32 e=2 d=16) -> t(48 e=2 d=16)"
FOUR = "vitstem -> t(16 e=2 d=8 sr=8) -> t(24 e=2 d=8 sr=4) -> t(32 e=2 d=16) -> t(48 e=2 d=16)"
# A downsampling of stride 1 keeps the grid: the paper's networks for side 224 need it.
STRIDE_1 = "hr(8 e=2) -> cffn(8 e=2 down=none) -> cffn(16 e=2 down=a) -> t(32 e=2 d=16 down=a s=1) -> t(48 e=2 d=16)"
FEATURES = {
    SIX: ([4, 8, 16, 32, 64, 128], [8, 8, 16, 16, 32, 48]),
    FIVE: ([4, 8, 16, 32, 64], [8, 16, 24, 32, 48]),
    FOUR: ([4, 8, 16, 32], [16, 24, 32, 48]),
    STRIDE_1: ([4, 4, 8, 8, 16], [8, 8, 16, 32, 48]),
    "hr(8 e=2)": ([4], [8]),
}


def _python(code: str) -> str:
    """Return the output of a new Python process."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("name", SPECS)
def test_heads_and_downsamplings_are_those_of_the_paper(name: str) -> None:
    net = paper_net(name)
    assert [stage.heads for stage in net.stages if stage.kind == "t"] == HEADS[name]
    assert [stage.down for stage in net.stages] == ["none", "a", "a", "b", "b"]


@pytest.mark.parametrize("name", SPECS)
def test_features_have_five_strides(name: str) -> None:
    model = timm.create_model(name, features_only=True).eval()
    widths = [stage.width for stage in paper_net(name).stages]
    assert model.feature_info.channels() == widths
    assert model.feature_info.reduction() == [4, 8, 16, 32, 64]
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 128, 128))
    sides = (32, 16, 8, 4, 2)
    assert [tuple(m.shape) for m in maps] == [(1, w, s, s) for w, s in zip(widths, sides, strict=True)]


def test_features_of_some_stages() -> None:
    model = timm.create_model("hirivit_small", features_only=True, out_indices=(1, 3))
    assert model.feature_info.channels() == [64, 320]
    assert model.feature_info.reduction() == [8, 32]


def test_timm_passes_its_keyword_arguments() -> None:
    model = timm.create_model("hirivit_small", num_classes=10, in_chans=1, drop_path_rate=0.1, global_pool="").eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 1, 10)


@pytest.mark.parametrize("name", ["hirivit_small", *HR_FRONT_LAYERS])
def test_the_configuration_names_the_first_and_the_last_layer(name: str) -> None:
    model = timm.create_model(name, in_chans=1)
    first_conv = model.get_submodule(model.pretrained_cfg["first_conv"])
    assert isinstance(first_conv, torch.nn.Conv2d)
    assert first_conv.in_channels == 1
    assert model.get_submodule(model.pretrained_cfg["classifier"]) is model.get_classifier()
    assert model.pretrained_cfg["input_size"] == (3, 448, 448)
    assert timm.data.resolve_data_config({}, model=model)["input_size"] == (3, 448, 448)


@pytest.mark.parametrize("name", ["hirivit_small", "pvt_v2_b2_hiri"])
def test_pretrained_weights_are_an_error(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"No pretrained weights exist for {name}"):
        timm.create_model(name, pretrained=True)


@pytest.mark.parametrize(("spec", "strides", "widths"), [(spec, *expected) for spec, expected in FEATURES.items()])
def test_features_of_any_network(spec: str, strides: list[int], widths: list[int]) -> None:
    model = timm.create_model("hirivit", spec=spec, features_only=True).eval()
    assert model.feature_info.reduction() == strides
    assert model.feature_info.channels() == widths
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 128, 384))
    assert [tuple(m.shape[1:]) for m in maps] == [(w, 128 // s, 384 // s) for w, s in zip(widths, strides, strict=True)]


def test_features_of_some_stages_of_any_network() -> None:
    model = timm.create_model("hirivit", spec=SIX, features_only=True, out_indices=(2, -1))
    assert model.feature_info.reduction() == [16, 128]
    model = timm.create_model("hirivit", spec=FOUR, features_only=True, out_indices=2)
    assert model.feature_info.reduction() == [16, 32]


def test_a_feature_pyramid_trains_on_a_wide_image() -> None:
    backbone = timm.create_model("hirivit", spec=FIVE, features_only=True, feature_cls="dict").train()
    pyramid = FeaturePyramidNetwork(backbone.feature_info.channels(), 8)
    maps = pyramid(backbone(torch.randn(2, 3, 320, 448)))
    assert [tuple(m.shape) for m in maps.values()] == [(2, 8, 320 // s, 448 // s) for s in (4, 8, 16, 32, 64)]
    sum(m.square().mean() for m in maps.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


def test_timm_passes_its_keyword_arguments_for_any_network() -> None:
    model = timm.create_model("hirivit", spec=FIVE, num_classes=10, in_chans=1, drop_path_rate=0.4, drop_rate=0.2)
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 10)
    assert [stage.blocks[0].drop_path.drop_prob for stage in model.stages] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert model.head.drop.p == 0.2


def test_a_paper_network_equals_hirivit_with_its_spec() -> None:
    with torch.device("meta"):
        models = [timm.create_model("hirivit", spec=SPECS["hirivit_base"]), timm.create_model("hirivit_base")]
    shapes = [{name: values.shape for name, values in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1]
    assert [model.pretrained_cfg["input_size"] for model in models] == [(3, 448, 448)] * 2


@pytest.mark.parametrize(("spec", "side", "grid"), [(SIX, 512, 4), (FIVE, 448, 7), (FOUR, 448, 14)])
def test_the_configuration_follows_the_spec(spec: str, side: int, grid: int) -> None:
    model = timm.create_model("hirivit", spec=spec)
    assert timm.data.resolve_data_config({}, model=model)["input_size"] == (3, side, side)
    assert model.pretrained_cfg["pool_size"] == (grid, grid)
    first_conv = model.get_submodule(model.pretrained_cfg["first_conv"])
    assert first_conv is next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    model = timm.create_model("hirivit", spec=spec, pretrained_cfg_overlay={"crop_pct": 0.9})
    assert model.pretrained_cfg["crop_pct"] == pytest.approx(0.9)


def test_a_saved_network_is_loaded_with_its_spec(tmp_path: Path) -> None:
    model = timm.create_model("hirivit", spec=FIVE, num_classes=10).eval()
    model.pretrained_cfg["input_size"] = (3, 192, 192)
    save_for_hf(model, str(tmp_path))
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded(x), model(x))
    assert tuple(loaded.pretrained_cfg["input_size"]) == (3, 192, 192)


def test_a_missing_or_wrong_spec_is_an_error() -> None:
    with pytest.raises(SpecError, match=r'hirivit needs a network; write timm.create_model\("hirivit", spec="hr'):
        timm.create_model("hirivit")
    with pytest.raises(SpecError, match="w=0 is not supported"):
        timm.create_model("hirivit", spec="hr(0 e=2)")


IMPORTS = [
    "import hiri_search.models; import timm",
    "import hiri_search, timm; assert not timm.list_models('hirivit*'); import hiri_search.models",
    pytest.param("import timm; import hiri_search.models", marks=pytest.mark.slow),
    pytest.param("import hiri_search; hiri_search.models; import timm", marks=pytest.mark.slow),
    pytest.param("import timm; import hiri_search.networks", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("imports", IMPORTS)
def test_timm_knows_the_models_in_any_order_of_imports_and_not_without(imports: str) -> None:
    names = "*sorted(timm.list_models('hirivit_*'))"
    code = f"{imports}; print({names}, type(timm.create_model('hirivit_small')).__name__)"
    assert _python(code) == f"{' '.join(sorted(SPECS))} HiriVit"
