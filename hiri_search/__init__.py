"""Architecture search and ablation harness for hybrid CNN + Transformer backbones (HIRI-ViT).

`__all__` lists the public interface. A name is imported at its first use: `import hiri_search` is fast, and parsing a
spec needs no torch.
"""

from typing import TYPE_CHECKING

import hiri_search.kinds  # noqa: F401 - the language knows the kinds that are registered

__all__ = [
    "ConfirmConfig",
    "Cost",
    "CountConfig",
    "CountError",
    "DataSource",
    "FuseError",
    "LatencyConfig",
    "Net",
    "Network",
    "NetworkRow",
    "Page",
    "ProxyConfig",
    "Recipe",
    "Resources",
    "SearchConfig",
    "Space",
    "SpecError",
    "Study",
    "StudyError",
    "StudyResults",
    "TimmNetwork",
    "build",
    "count",
    "count_module",
    "count_parts",
    "fuse_batchnorm",
    "kinds",
    "load_results",
    "models",
    "parse",
    "parse_net",
    "parse_network",
    "parse_space",
    "sample",
    "tune",
]

if TYPE_CHECKING:
    from hiri_search import kinds, models, tune
    from hiri_search.api.results import Page, StudyResults, load_results
    from hiri_search.api.study import Study
    from hiri_search.cost.flops import Cost, count, count_module, count_parts
    from hiri_search.cost.latency.config import LatencyConfig
    from hiri_search.cost.operators import CountError
    from hiri_search.language import (
        Net,
        Network,
        Space,
        SpecError,
        TimmNetwork,
        parse,
        parse_net,
        parse_network,
        parse_space,
        sample,
    )
    from hiri_search.nets.fuse_batchnorm import FuseError, fuse_batchnorm
    from hiri_search.networks import build
    from hiri_search.study.config.schema import CountConfig, NetworkRow, ProxyConfig
    from hiri_search.study.config.sections.resources import Resources
    from hiri_search.study.config.sections.search import ConfirmConfig, SearchConfig
    from hiri_search.study.errors import StudyError
    from hiri_search.training.job import DataSource
    from hiri_search.training.recipe import Recipe

    __version__: str
else:  # hidden from type checkers, which would accept any name of a module with `__getattr__`
    _NAMES = {  # the imports above, by module below hiri_search
        "api.results": "Page StudyResults load_results",
        "api.study": "Study",
        "cost.flops": "Cost CountError count count_module count_parts",
        "cost.latency.config": "LatencyConfig",
        "language": "Net Network Space SpecError TimmNetwork parse parse_net parse_network parse_space sample",
        "nets.fuse_batchnorm": "FuseError fuse_batchnorm",
        "networks": "build",
        "study.config.sections.resources": "Resources",
        "study.config.schema": "CountConfig NetworkRow ProxyConfig",
        "study.config.sections.search": "ConfirmConfig SearchConfig",
        "study.errors": "StudyError",
        "training.job": "DataSource",
        "training.recipe": "Recipe",
    }
    _MODULES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names.split()}

    def __getattr__(name):
        from importlib import import_module, metadata

        if name in ("models", "tune"):
            return import_module(f"{__name__}.{name}")
        if name == "__version__":
            return metadata.version("hiri-search")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__, "__version__"})
