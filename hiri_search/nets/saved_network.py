"""A trained network as files for others: in timm's layout, and as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor, nn

from hiri_search.nets.pieces import IMAGE_CHANNELS

MAX_DIFFERENCE = 1e-4  # of the logits of ONNX Runtime, relative to the largest logit of torch
_MAX_ONNX_BYTES = 10**9  # a file of ONNX holds less than 2 GiB
_EXPORT_BATCH, _CHECKED_BATCHES, _MAX_BATCH = 2, (1, 3), 2**16  # images


class ExportError(RuntimeError):
    """A network that cannot be written in a format; the message gives the reason, and what to do."""


def save_for_timm(model: nn.Module, folder: Path, data: Mapping[str, Any]) -> None:
    """Write model.safetensors and config.json, from which timm builds the network again.

    `model` was built by timm, and `data` is how its images are prepared: input_size, mean, std, crop_pct. Raises
    ExportError for a network without timm's configuration.
    """
    if not hasattr(model, "pretrained_cfg"):  # of a function that a user has registered
        remedy = "let its function build it with timm.models.build_model_with_cfg"
        raise ExportError(f"timm cannot save a {type(model).__name__} without timm's configuration; {remedy}")
    save_for_hf(model, folder, safe_serialization=True, data_config=dict(data))


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors: one that has two names is written twice."""
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)


def require_onnx() -> None:
    """Raise ExportError where this environment cannot write ONNX."""
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise ExportError(f'--onnx needs {" and ".join(missing)}; pip install "hiri-search[onnx]"')


def save_onnx(model: nn.Module, side: int, path: Path) -> float | None:
    """Write the network as ONNX, for any number of images of one side: (B, 3, side, side) -> (B, classes).

    Return the largest difference between the logits of ONNX Runtime and of torch, relative to the largest logit; None
    where ONNX Runtime is not installed. Raises ExportError where torch cannot export the network, or they differ.
    """
    require_onnx()
    options: dict[str, Any] = {
        "dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=_MAX_BATCH)},),
        "input_names": ["images"],
        "output_names": ["logits"],
        "external_data": _is_large(model),
    }
    try:
        torch.onnx.export(model, (_images(_EXPORT_BATCH, side),), path, dynamo=True, verbose=False, **options)
    except Exception as error:  # of torch.export with the code of any network
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"torch cannot export this network as ONNX; leave out --onnx ({reason})") from error
    if find_spec("onnxruntime") is None:
        return None
    difference = max(_difference(model, path, _images(count, side)) for count in _CHECKED_BATCHES)
    if difference > MAX_DIFFERENCE:
        raise ExportError(f"the logits of {path.name} differ from torch's by {difference:.1e}; leave out --onnx")
    return difference


def _is_large(model: nn.Module) -> bool:
    """Return whether the weights need a file of their own beside the ONNX file."""
    size: int = sum(value.nbytes for value in model.state_dict().values())
    return size > _MAX_ONNX_BYTES


def _images(count: int, side: int) -> Tensor:
    return torch.randn(count, IMAGE_CHANNELS, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _difference(model: nn.Module, path: Path, images: Tensor) -> float:
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    logits, expected = torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), model(images)
    return float((logits - expected).abs().max() / expected.abs().max())
