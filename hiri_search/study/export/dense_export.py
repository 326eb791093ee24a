"""Export of a detector or a network for segmentation: the whole as safetensors, and its backbone for timm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hiri_search.language import DenseNetwork
from hiri_search.nets.saved_network import ExportError, save_for_timm, save_tensors
from hiri_search.nets.weights_file import first_of
from hiri_search.networks import backbone_for_timm
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import IMAGE_FOLDER
from hiri_search.training.data.datasets import evaluation_config
from hiri_search.training.data.decode_cache import cache_folder
from hiri_search.training.dense.predictions import class_names

_WEIGHTS, _ABOUT = "dense.safetensors", "dense.json"
HUB_TASKS = {"detection": "object-detection", "segmentation": "image-segmentation"}
_OUTPUTS = {
    "detection": "`labels` (N,), `scores` (N,), `boxes` (N, 4): left, top, right and bottom in the scaled image",
    "segmentation": "logits (classes, height, width)",
}
_MASKS = ", and `masks` (N, 1, height, width) from 0 to 1"
_USE = """The whole network, on an image of any size:

```python
import json

import hiri_search{code}
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.v2 import functional

with open("{folder}/dense.json") as file:
    about = json.load(file)
model = hiri_search.build(hiri_search.parse_network(about["spec"]), about["side"], classes=about["classes"]).eval()
model.load_state_dict(load_file("{folder}/dense.safetensors"))

image = functional.pil_to_tensor(Image.open("image.jpg").convert("RGB"))
image = functional.resize(image, None, max_size=about["side"])
image = functional.normalize(image / 255, about["mean"], about["std"])
_, height, width = image.shape
image = functional.pad(image, [0, 0, about["side"] - width, about["side"] - height])
outputs = model(image[None])
```

For each image it returns {outputs}.
Classes have the numbers 0 to {last}; `class_names` of `dense.json` has their names, where they are known.

The backbone alone, for other methods:

```python
import timm{imports}{code}

backbone = timm.create_model("local-dir:{folder}", pretrained=True, features_only=True)
```
{untrained}"""
_UNTRAINED = """
`model.safetensors` also has initial values, which were not trained, of what timm has behind the last stage:
{names}."""


def check_onnx(network: DenseNetwork) -> None:
    """Raise ExportError for a detector: its number of boxes depends on the image."""
    if network.method.task == "detection":
        problem = f"--onnx writes classifiers and networks for segmentation, not {network.method.title}"
        raise ExportError(f"{problem}; leave it out, and export the backbone of model.safetensors with timm")


def save_dense(model: Any, network: DenseNetwork, folder: Path, about: dict[str, Any]) -> list[str]:
    """Write the whole network, a description `about` it, and its backbone for timm.

    Return the names of the values of the backbone that were not trained. Raises ExportError where timm cannot save it.
    """
    save_tensors(model.state_dict(), folder / _WEIGHTS)
    (folder / _ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    backbone, untrained = backbone_for_timm(network, model)
    cfg: Any = getattr(backbone, "pretrained_cfg", {})
    side = cfg["input_size"][-1] if cfg.get("fixed_input_size") else about["side"]  # timm builds Swin for one side
    save_for_timm(backbone, folder, evaluation_config(side))
    return untrained


def about_dense(network: DenseNetwork, side: int, classes: int, names: list[str]) -> dict[str, Any]:
    """Return what one needs to build a network again, and to prepare its images."""
    data = evaluation_config(side)
    about = {"spec": str(network), "task": network.method.task, "side": side, "classes": classes, "class_names": names}
    return {**about, "mean": list(data["mean"]), "std": list(data["std"])}


def known_class_names(results: Path, fingerprint: str, classes: int) -> list[str]:
    """Return the names of the classes of prepared images; empty where these are not on this machine."""
    if not fingerprint:
        return []
    try:
        names = list(class_names(cache_folder(results / IMAGE_FOLDER) / Path(fingerprint).name))
    except (OSError, ValueError, LookupError, StudyError):
        return []
    return names if len(names) == classes else []


def dense_use(
    folder: str, network: DenseNetwork, classes: int, *, imports: str, code: str, untrained: Sequence[str]
) -> str:
    """Return how a model card says to load the network and its backbone: with the user's own `code`, if any."""
    outputs = _OUTPUTS[network.method.task] + (_MASKS if network.method.masks else "")
    rest = _UNTRAINED.format(names=first_of(untrained)) if untrained else ""
    return _USE.format(folder=folder, last=classes - 1, imports=imports, code=code, outputs=outputs, untrained=rest)
