"""Architecture search and ablation harness for hybrid CNN + Transformer backbones (HIRI-ViT).

After `import hiri_search`, timm knows the models of `nets.models` (`hirivit_small`, and `hirivit` of any `spec=`) and
Table 9's backbones of `nets.fronted`, whichever of the two was imported first. Importing timm takes seconds, and
parsing or reporting needs none of it: so nothing is imported here, and the models are registered when somebody else
has imported timm."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType


_REGISTRY = "timm.models"  # no name of timm's can be asked for before this module has run


def _register() -> None:
    import hiri_search.nets.hr_front_registry
    import hiri_search.nets.timm_registry  # noqa: F401 - their decorators register


class _AfterTimm:
    """A finder that finds what the finders behind it find, but has `timm.models` loaded by a `_Loader`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _REGISTRY:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec


class _Loader:
    """Stands in for the true loader until the module runs, so that nobody sees another one afterwards."""

    def __init__(self, loader: Any, finder: _AfterTimm) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:  # get_source and the like, for those who look but do not import
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register()
        if self._finder in sys.meta_path:  # only now: an import that failed can be tried again
            sys.meta_path.remove(self._finder)


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # slow, and seldom asked for

    return version("hiri-search")


if _REGISTRY in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _AfterTimm())
