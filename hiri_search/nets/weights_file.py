"""Weights to begin with: the state dict of a file, as timm finds it, or one of timm, and how it fits a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from errno import EINVAL
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Size, Tensor, nn, strided, uint8
from torch.serialization import get_unsafe_globals_in_checkpoint

from hiri_search.system.files import expanded

# Errors of torch.load, safetensors and timm for a file that holds something else.
LOAD_ERRORS = (
    *(RuntimeError, EOFError, UnpicklingError, AttributeError, LookupError, TypeError, ValueError),
    SafetensorError,
)
_WANTED = "write the path of a state dict, alone or in a checkpoint, saved by torch.save or safetensors"
_SHOWN = 3  # names in a message
_COUNTER = ".num_batches_tracked"  # of BatchNorm: missing in old files, and not needed


class WeightsError(ValueError):
    """Weights that cannot be had, or are those of another network: what was found, and what was wanted."""


@dataclass(frozen=True)
class Weights:
    """A state dict, and its name: the path of its file, or a network of timm with the tag of its weights."""

    name: str
    values: dict[str, Tensor]
    pretrained: bool = False  # published by timm
    note: str = ""  # a sentence on what a training from them differs in
    prefix: str = ""  # that their names had, such as `backbone.`

    @property
    def setting(self) -> str:
        """The setting of a recipe that asks for them, with their name."""
        return f"{'pretrained' if self.pretrained else 'weights'}={self.name}"

    @cached_property
    def fingerprint(self) -> str:
        """A fingerprint of the content of the file, which is read again for it, or of timm's values.

        A training needs none.
        """
        if self.pretrained:
            return _fingerprint(self.values)
        with expanded(self.name).open("rb") as content:
            return file_digest(content, "sha256").hexdigest()[:16]

    def below_prefix(self, names: Collection[str]) -> Weights:
        """Return those below the prefix, such as `backbone.`, with which most of these names are found, without it."""
        found = Counter(key[:start] for key in self.values for start in _starts(key) if key[start:] in names)
        prefix, count = max(found.items(), key=lambda item: (item[1], -len(item[0])), default=("", 0))
        if not prefix or 2 * count < len(names):
            return self
        values = {key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)}
        return replace(self, values=values, prefix=prefix)

    def without(self, names: Collection[str]) -> Weights:
        """Return them without those of these names."""
        return replace(self, values={name: value for name, value in self.values.items() if name not in names})

    def fitting(self, model: nn.Module, *, last: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return the values for a network; those of its last layer are left out where there are none for its classes.

        `last` names the values whose length is that of the classes; None: those of timm's classifier. Raises
        WeightsError where others are missing, have another shape or are not in the network.
        """
        wanted = {name: value.shape for name, value in model.state_dict().items()}
        last = _last_layer(model) if last is None else last
        problems = {kind: names for kind, names in self._problems(wanted, last).items() if names}
        if problems:
            listed = "; ".join(f"{kind}: {first_of(names)}" for kind, names in problems.items())
            raise WeightsError(f"{self.setting} holds another network's weights; {listed}")
        return {name: value for name, value in self.values.items() if value.shape == wanted[name]}

    def classes(self, model: nn.Module) -> int:
        """Return the number of classes of their last layer; 0 where there is none."""
        last = [self.values[name] for name in _last_layer(model) if name in self.values]
        return len(last[-1]) if last else 0

    def changed(self, values: Mapping[str, Tensor]) -> str:
        """Describe which of these values have another name or shape in `values`; empty: none."""
        shapes = {name: value.shape for name, value in self.values.items()}
        changes = [
            f"{name} ({_shown(shapes[name])} -> {_shown(value.shape)})" if name in shapes else f"{name} (a new name)"
            for name, value in values.items()
            if shapes.get(name) != value.shape
        ]
        return first_of(changes)

    def _problems(self, wanted: dict[str, Size], last: Collection[str]) -> dict[str, list[str]]:
        optional = set() if self.values.keys() & set(last) else set(last)
        found = {name: value.shape for name, value in self.values.items()}
        common = [name for name in wanted if name in found]
        return {
            "of another shape": [
                f"{name} ({_shown(found[name])} there, {_shown(wanted[name])} in the network)"
                for name in common
                if found[name][1:] != wanted[name][1:] or (found[name] != wanted[name] and name not in last)
            ],
            "missing there": [
                name for name in wanted if name not in found and name not in optional and not name.endswith(_COUNTER)
            ],
            "not in the network": [name for name in found if name not in wanted],
        }


def read_weights(path: str) -> Weights:
    """Read what timm's `checkpoint_path` takes: a state dict, alone or in a checkpoint, of torch.save or safetensors.

    Averaged weights come first, and prefixes of torch.compile and DistributedDataParallel go. No code of the file is
    run. Raises OSError where the file cannot be opened, and WeightsError where it holds no weights.
    """
    file = expanded(path)
    if file.exists() and not file.is_file():
        raise WeightsError(f"weights={path} is {'a folder' if file.is_dir() else 'no regular file'}; {_WANTED}")
    file.open("rb").close()  # first: timm's error does not say whether the file is missing or not readable
    try:
        with half_file_is_no_disk_error():
            values = load_state_dict(str(file), weights_only=True)
    except LOAD_ERRORS as error:
        raise WeightsError(f"weights={path} {_problem(file, error)}; {_WANTED}") from error
    if not values:
        raise WeightsError(f"weights={path} holds no weights; {_WANTED}")
    if others := [str(name) for name, value in values.items() if not _has_numbers(value)]:
        raise WeightsError(f"weights={path} holds values that are no weights: {first_of(others)}; {_WANTED}")
    if broken := [name for name, value in values.items() if not value.isfinite().all()]:
        raise WeightsError(f"weights={path} holds NaN or infinity in {first_of(broken)}; {_WANTED}")
    return Weights(path, values)


@contextmanager
def half_file_is_no_disk_error() -> Iterator[None]:
    """Turn the OSError that torch raises for a file that ends too early into an EOFError, one of LOAD_ERRORS."""
    try:
        yield
    except OSError as error:
        if error.errno == EINVAL:
            raise EOFError("the file ends too early") from error
        raise


def _fingerprint(values: dict[str, Tensor]) -> str:
    digest = sha256()
    for name, value in sorted(values.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(uint8).numpy().data)
    return digest.hexdigest()[:16]


def _has_numbers(value: Any) -> bool:
    """Return whether a value is a tensor that holds its numbers: not a sparse or quantized one, or one of `meta`."""
    return isinstance(value, Tensor) and value.layout == strided and not value.is_quantized and not value.is_meta


def _problem(file: Path, error: Exception) -> str:
    if isinstance(error, AttributeError):  # from timm
        return "holds no state dict"
    if "TorchScript" in str(error):
        return "is a TorchScript archive"
    try:
        objects = get_unsafe_globals_in_checkpoint(file)
    except (*LOAD_ERRORS, OSError):
        objects = []
    if objects:
        return f"holds objects whose code would be run ({first_of(objects)})"
    return "is damaged, or is no such file"


def _last_layer(model: nn.Module) -> list[str]:
    """Return the names of the values of timm's classifier, which may be several modules."""
    classifier: Any = getattr(model, "get_classifier", lambda: None)()
    modules = classifier if isinstance(classifier, tuple | list) else (classifier,)
    names = {id(module): name for name, module in model.named_modules()}
    return [f"{names[id(module)]}.{key}" for module in modules if id(module) in names for key in module.state_dict()]


def _starts(name: str) -> Iterator[int]:
    """Yield where a part of a name begins."""
    yield 0
    yield from (index + 1 for index, letter in enumerate(name) if letter == ".")


def _shown(shape: Size) -> str:
    return "x".join(map(str, shape)) or "a number"


def first_of(names: Iterable[str]) -> str:
    """Join the first names, and count the others."""
    first, rest = (names := list(names))[:_SHOWN], len(names) - _SHOWN
    return ", ".join([*first, f"and {rest} more"] if rest > 0 else first)
