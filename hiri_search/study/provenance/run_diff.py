"""Differences between two runs: study, data, code, software, machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from hiri_search.study.config.identity import canonical_form, differences
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.events import StudyStarted
from hiri_search.study.ledger.values import CodeVersion


def run_differences(old: StudyStarted, new: StudyStarted) -> Iterator[tuple[str, str]]:
    """Yield the subject of a difference and the difference as `name: old -> new`.

    Studies are compared as this version reads them.
    """
    for subject, values in (
        ("study", [canonical_form(Study.model_validate(started.file)) for started in (old, new)]),
        ("images", [_without_skipped(started) for started in (old, new)]),
        ("profile", [{"profile": started.profile} for started in (old, new)]),
        ("device", [{"device": started.device} for started in (old, new)]),
        ("machine", [{"machine": started.machine} for started in (old, new)]),
        ("versions", [{"versions": started.versions} for started in (old, new)]),
        ("code", [_code(started.code) for started in (old, new)]),
    ):
        yield from ((subject, difference) for difference in differences(*values))


def _without_skipped(started: StudyStarted) -> dict[str, Any]:
    return {name: value for name, value in asdict(started.images).items() if name != "skipped"}


def _code(code: CodeVersion) -> dict[str, Any]:
    """Return what identifies code: equal digests mean equal files, whatever git shows."""
    dirty = "with changes" if code.changed else "as committed"
    commit = f"{code.commit[:12]} {dirty}" if code.commit else "not in git"
    return {"digest": code.digest, "commit": commit, "version": code.version}
