"""Canonical form of a study: equal forms give equal results; differences between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hiri_search.language import RelatedSpace, parse_network, parse_space
from hiri_search.study.config.schema import NetworkRow, StudyConfig
from hiri_search.study.config.sections.seeds import AutoSeeds

# Keys that do not change results (confirm: only adds trials), or whose canonical form is added separately.
_EXCLUDED: dict[str, Any] = {
    **dict.fromkeys(("title", "table", "compare", "let", "latency", "cache", "checkpoints"), True),
    **dict.fromkeys(
        ("nets", "space", "where", "confirm", "calibrate", "calibration", "resources", "storage", "imports"), True
    ),
    **dict.fromkeys(("callbacks", "log", "score"), True),
    "code": {"kinds"},
    "metrics": {"__all__": {"label", "unit", "digits"}},
}


def canonical_form(study: StudyConfig) -> dict[str, Any]:
    """Return everything that decides a study's results, as plain values in one normal form."""
    if study.space is not None:
        excluded = _EXCLUDED | {"search": {"reuse", "zero_cost"}}
        if study.searches_by_latency:
            del excluded["latency"]
        plain = study.model_dump(mode="json", exclude=excluded)
        space = parse_space(study.space, let=study.let, where=study.where)
        if not isinstance(space, RelatedSpace):
            return plain | {"space": str(space)}
        return plain | {"space": str(space.space), "where": sorted(map(str, space.relations))}  # in any order
    plain = study.model_dump(mode="json", exclude=_EXCLUDED | {"search": True})
    if rule := study.auto_seeds:
        plain["seeds"] = {"first": list(rule.first), "most": rule.most}  # a study may go on for more minutes
    trained = [row for row in (study.nets or {}).values() if row.train]
    if any(row.setting for row in trained) and all(row.recipe for row in trained):
        del plain["recipe"]  # each row has its own, and choices may be written in any order
    nets = {name: _canonical_row(study, row) for name, row in (study.nets or {}).items()}
    return plain | {"nets": nets}


def _canonical_row(study: StudyConfig, row: NetworkRow) -> str | dict[str, Any]:
    """Return the normalised spec of a row, together with the row's own training settings if it has any."""
    deciding = {"spec", "stand_in", "stand_in_width", "side", "stand_in_side", "train", "recipe"}
    values = row.model_dump(mode="json", include=deciding, exclude_defaults=True)
    for name in {"spec", "stand_in"} & set(values):
        values[name] = str(parse_network(values[name], let=study.let))  # one text for all spellings of a network
    return values if len(values) > 1 else str(values["spec"])


def timing_machine(machine: Mapping[str, Any]) -> str:
    """Return the part of a machine, as a run records it, that inference times of a search depend on."""
    return f"{machine.get('device')} with {machine.get('threads')} threads"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a line such as `recipe.epochs: 12 -> 14` for each value in which two canonical forms differ."""
    old_values, new_values = _flat(old), _flat(new)
    absent = "(absent)"
    return [
        f"{name}: {old_values.get(name, absent)} -> {new_values.get(name, absent)}"
        for name in old_values | new_values
        if old_values.get(name, absent) != new_values.get(name, absent)
    ]


def incompatible_changes(earlier: Sequence[Mapping[str, Any]], new: Mapping[str, Any]) -> list[str]:
    """Return the `differences` from the earlier studies of a results folder, oldest first, that it cannot follow.

    An ablation may gain, lose and reorder rows while one stays, and gain seeds, or a rule that adds seeds to those that
    it has; a search may ask for more networks. A row that is put back must be what it was: its trials are still there.
    A rule stays as it is: its tests are made for the first and the most seeds.
    """
    old = earlier[-1]
    if "nets" in old and "nets" in new:
        rows = {name: row for form in earlier for name, row in form["nets"].items()}
        if shared := [name for name in rows if name in new["nets"]]:
            old = {**old, "nets": {name: rows[name] for name in shared}}
            new = {**new, "nets": {name: new["nets"][name] for name in shared}}
        else:
            old, new = ({**form, "nets": ", ".join(form["nets"])} for form in (old, new))
        if ("recipe" in old) != ("recipe" in new):
            old, new = ({**form, "recipe": f"one for {'all' if 'recipe' in form else 'each'}"} for form in (old, new))
        if isinstance(old["seeds"], list) and set(old["seeds"]) <= _possible(new["seeds"]):
            new = {**new, "seeds": old["seeds"]}
    elif "search" in old and "search" in new and new["search"]["networks"] > old["search"]["networks"]:
        new = {**new, "search": {**new["search"], "networks": old["search"]["networks"]}}
    return differences(old, new)


def _possible(seeds: list[int] | Mapping[str, Any]) -> set[int]:
    """Return the seeds that a row may have."""
    return set(seeds if isinstance(seeds, list) else AutoSeeds(**seeds).all_seeds)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}".lstrip(".")).items()}
