"""What changed between two runs: study, data, code, software, machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hiri_search.study.config.identity import canonical_form, differences
from hiri_search.study.config.schema import Study

RUN_KEYS = ("profile", "device", "machine", "versions")  # as they stand in a run's first line


def run_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of what, and `name: old -> new`; by what two runs began with. Facts that one of them does not tell are left out.

    Studies are compared as this version reads them: a setting that one ledger is too old for has its default.
    """
    yield from (("study", one) for one in differences(*(_meaning(about) for about in (old, new))))
    yield from (("images", one) for one in differences(*(_images(about) for about in (old, new))))
    for name in RUN_KEYS:
        if name in old and name in new:
            yield from ((name, one) for one in differences({name: old[name]}, {name: new[name]}))
    yield from (("code", one) for one in differences(*(_code(about.get("code", {})) for about in (old, new))))


def _meaning(about: Mapping[str, Any]) -> dict[str, Any]:
    return canonical_form(Study.model_validate(about["file"]))


def _images(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about["images"].items() if name != "skipped"}


def _code(code: Mapping[str, Any]) -> dict[str, Any]:
    """Two that have the same digest are the same, whatever git says of them."""
    dirty = "with changes" if code.get("changed") else "as committed"
    commit = f"{code['commit'][:12]} {dirty}" if code.get("commit") else "not in git"
    return {"digest": code["digest"], "commit": commit, "version": code["version"]} if code else {}
