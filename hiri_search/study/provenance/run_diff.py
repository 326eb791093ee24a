"""Differences between two runs: study, data, code, software, machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from hiri_search.study.config.identity import canonical_form, differences
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import StudyStarted
from hiri_search.study.ledger.values import CodeVersion


def run_differences(old: StudyStarted, new: StudyStarted) -> Iterator[tuple[str, str]]:
    """Yield the subject of a difference and the difference as `name: old -> new`; studies are read by this version."""
    before, after = _subjects(old), _subjects(new)
    for subject in before:
        yield from ((subject, difference) for difference in differences(before[subject], after[subject]))


def _subjects(started: StudyStarted) -> dict[str, dict[str, Any]]:
    plain = asdict(started)
    return {
        "study": canonical_form(StudyConfig.model_validate(started.file)),
        "images": {name: value for name, value in plain["images"].items() if name not in ("skipped", "notes")},
        **{name: {name: plain[name]} for name in ("weights", "profile", "device", "machine", "versions")},
        "code": _code(started.code),
    }


def _code(code: CodeVersion) -> dict[str, Any]:
    """Return what identifies code: equal digests mean equal files, whatever git shows."""
    dirty = "with changes" if code.changed else "as committed"
    commit = f"{code.commit[:12]} {dirty}" if code.commit else "not in git"
    return {"digest": code.digest, "commit": commit, "version": code.version}
