"""timm's cache with weights in it, as a download leaves them."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg
from torch import Tensor

_COMMIT = "0" * 40


def use_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm find weights in a folder only: no test uses the network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def put(name: str, folder: Path) -> dict[str, Tensor]:
    """Write random weights for a model of timm into a cache; return them."""
    home = folder / f"models--{get_pretrained_cfg(name).hf_hub_id.replace('/', '--')}"
    snapshot = home / "snapshots" / _COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(_COMMIT)
    state: dict[str, Tensor] = timm.create_model(name).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, snapshot / "model.safetensors")
    return state
