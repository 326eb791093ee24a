"""The paper's networks under their names in timm."""

from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torch

import hiri_search
from hiri_search.nets.models import SPECS, paper_net

HEADS = {
    "hirivit_small": [5, 8],
    "hirivit_base": [5, 10],
    "hirivit_large": [7, 10],
}


def run(code: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", SPECS)
def test_heads_are_those_of_table_1(name: str) -> None:
    net = paper_net(name)
    assert [stage.heads for stage in net.stages if stage.kind == "t"] == HEADS[name]
    assert [stage.down for stage in net.stages] == ["none", "a", "a", "b", "b"]


@pytest.mark.parametrize("name", SPECS)
def test_timm_gives_features_at_five_strides(name: str) -> None:
    model = timm.create_model(name, features_only=True).eval()
    widths = [stage.width for stage in paper_net(name).stages]
    assert model.feature_info.channels() == widths
    assert model.feature_info.reduction() == [4, 8, 16, 32, 64]
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 128, 128))
    sides = (32, 16, 8, 4, 2)
    assert [tuple(m.shape) for m in maps] == [(1, w, s, s) for w, s in zip(widths, sides, strict=True)]


def test_timm_gives_some_features() -> None:
    model = timm.create_model("hirivit_small", features_only=True, out_indices=(1, 3))
    assert model.feature_info.channels() == [64, 320]
    assert model.feature_info.reduction() == [8, 32]


def test_timm_passes_its_keywords() -> None:
    model = timm.create_model("hirivit_small", num_classes=10, in_chans=1, drop_path_rate=0.1, global_pool="").eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 1, 10)


def test_timm_finds_the_first_and_the_last_layer_of_a_configuration() -> None:
    model = timm.create_model("hirivit_small")
    found = model.pretrained_cfg
    assert found["input_size"] == (3, 448, 448)
    assert isinstance(model.get_submodule(found["first_conv"]), torch.nn.Conv2d)
    assert model.get_submodule(found["classifier"]) is model.get_classifier()
    assert timm.data.resolve_data_config({}, model=model)["input_size"] == (3, 448, 448)


def test_there_are_no_weights_to_fetch() -> None:
    with pytest.raises(RuntimeError, match="No pretrained weights exist for hirivit_small"):
        timm.create_model("hirivit_small", pretrained=True)


ORDERS = {
    "ours first": "import hiri_search, timm",
    "timm first": "import timm, hiri_search",
    "a room first": "import hiri_search.nets.blocks, timm",
    "only looked for first": (
        "import hiri_search, importlib.util; s = importlib.util.find_spec('timm.models');"
        " assert s.loader.get_source('timm.models'); import timm"
    ),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_timm_knows_the_models_in_any_order_of_imports(order: str) -> None:
    clean = "sum('_AfterTimm' in str(type(f)) for f in sys.meta_path), type(timm.models.__loader__).__name__"
    code = f"import sys; {order}; print(*sorted(timm.list_models('hirivit_*')), {clean})"
    assert run(code) == f"{' '.join(sorted(SPECS))} 0 SourceFileLoader"


def test_an_import_of_timm_that_failed_can_be_tried_again() -> None:
    code = """
import sys, hiri_search
sys.modules["timm.data"] = None  # what is needed there cannot be imported
try:
    import timm
except ImportError:
    del sys.modules["timm.data"]
else:
    sys.exit("it did not fail")
import timm
print(timm.is_model("hirivit_small"))
"""
    assert run(code) == "True"


@pytest.mark.parametrize("module", ["hiri_search", "hiri_search.language"])
def test_what_needs_no_torch_imports_none(module: str) -> None:
    heavy = ["torch", "timm", "fvcore", "ray", "optuna", "pandas", "numpy", "pydantic"]
    assert run(f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_the_version_is_that_of_the_distribution() -> None:
    assert hiri_search.__version__.count(".") == 2
    assert not hasattr(hiri_search, "__versions__")
