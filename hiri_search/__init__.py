"""Architecture search and ablation harness for hybrid CNN + Transformer backbones (HIRI-ViT)."""


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # slow, and seldom asked for

    return version("hiri-search")
