"""Canonical form of a study: equal forms give equal results; differences between two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hiri_search.language import parse, parse_network
from hiri_search.study.config.schema import NetworkRow, Study

# What no digit depends on, or is said again below.
WORDING_KEYS = (
    "title",
    "table",
    "compare",
    "let",
    "latency",
    "cache",
    "checkpoints",
    "nets",
    "space",
    "confirm",  # it adds trials
    "resources",
    "storage",
)
SHOWN_ONLY: dict[str, Any] = {name: True for name in WORDING_KEYS}


def canonical_form(study: Study) -> dict[str, Any]:
    """The meaning of a study in plain values."""
    if study.space is not None:
        plain = study.model_dump(mode="json", exclude=SHOWN_ONLY | {"search": {"reuse", "zero_cost"}})
        return plain | {"space": str(parse(study.space, let=study.let))}
    plain = study.model_dump(mode="json", exclude=SHOWN_ONLY | {"search": True})
    nets = {name: _meant(study, row) for name, row in (study.nets or {}).items()}
    return plain | {"nets": nets}


def _meant(study: Study, row: NetworkRow) -> str | dict[str, Any]:
    """A row's network alone, or with what else decides its training."""
    deciding = {"spec", "stand_in", "side", "stand_in_side", "train", "recipe"}
    written = row.model_dump(mode="json", include=deciding, exclude_defaults=True)
    for name in {"spec", "stand_in"} & set(written):
        written[name] = str(parse_network(written[name], let=study.let))  # the same however it is written
    return written if len(written) > 1 else str(written["spec"])


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`recipe.epochs: 12 -> 14`, for each value of two meanings that differs."""
    before, after = _flat(old), _flat(new)
    names = [*before, *(name for name in after if name not in before)]
    absent = "(absent)"
    return [
        f"{name}: {before.get(name, absent)} -> {after.get(name, absent)}"
        for name in names
        if before.get(name, absent) != after.get(name, absent)
    ]


def incompatible_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """As `differences`, but for what only adds trials to an ablation: rows behind the others, and more seeds."""
    if "nets" in old and "nets" in new:
        rows, seeds = old["nets"], old["seeds"]
        if list(new["nets"])[: len(rows)] == list(rows):
            new = {**new, "nets": {name: new["nets"][name] for name in rows}}
        if set(seeds) <= set(new["seeds"]):
            new = {**new, "seeds": seeds}
    return differences(old, new)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}".lstrip(".")).items()}
