"""Checks of checkpoints and of the images on disk."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.layout import CHECKPOINTS, LAST_CHECKPOINT
from hiri_search.study.ledger.trial import Trial, reproduced, training_digest
from hiri_search.study.persistence.checkpoints import existing
from hiri_search.study.provenance.record import Record, Source
from hiri_search.study.provenance.verify.finding import Finding, Findings
from hiri_search.system.files import Say
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.prepare import fingerprint
from hiri_search.training.job import Epoch
from hiri_search.training.loop import CURVE
from hiri_search.training.state import curve_in


def check_checkpoints(record: Record, *, quick: bool) -> Finding:
    """Each belongs to a trial, can be read without running what is in it, and has that trial's curve."""
    checked, names = Findings.none(), sorted(existing(record.folder))
    for name in names:
        of_it = [trial for trial in record.trials if training_digest(trial) == name]
        where = f"{CHECKPOINTS}/{name}"
        if not of_it:
            checked.faults.append(f"{where} belongs to no trial")
        elif not quick:
            checked.faults += [f"{where}: {fault}" for fault in _of_another(record.folder / where, of_it[0])]
    how = "belong to trials; not opened" if quick else "belong to trials and hold their curves"
    checked.remarks.append(f"{len(names):,} {how}" if names else "there are none")
    return checked.of("checkpoints")


def _of_another(folder: Path, trial: Trial) -> Iterator[str]:
    """It may be an epoch ahead of what was told, where its run was killed, and behind it where one was lost."""
    curve = curve_in(folder / LAST_CHECKPOINT)
    if curve is None:
        yield f"{LAST_CHECKPOINT} cannot be read as a checkpoint of ours"
        return
    both = min(len(curve), len(trial.curve))
    if reproduced(curve[:both]) != reproduced(trial.curve[:both]) or (trial.state == "finished" and len(curve) != both):
        yield f"{LAST_CHECKPOINT} holds another curve than trial {trial.number}"
    if (folder / CURVE).is_file():
        yield from _of_another_table(folder / CURVE, curve)


def _of_another_table(path: Path, curve: Sequence[Epoch]) -> Iterator[str]:
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    wanted = [
        {name: _cell(getattr(epoch, name, None)) for name in row} for row, epoch in zip(rows, curve, strict=False)
    ]
    if rows != wanted or len(rows) not in (len(curve), len(curve) - 1):  # it is written behind the checkpoint
        line = next(
            (n for n, pair in enumerate(zip(rows, wanted, strict=False), 2) if pair[0] != pair[1]), len(rows) + 1
        )
        yield f"{CURVE}, line {line}, is not what {LAST_CHECKPOINT} holds"


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def check_images(record: Record, *, quick: bool, say: Say) -> Finding:
    """Those of each study are still the same, where they are still there; a quick check reads none of them."""
    checked = Findings.none()
    for source in record.source_by_folder.values():
        try:
            checked.faults += _changed(source, record.folder, quick=quick, say=say)
            checked.remarks.append(f"{source.study.data.source}: {_how(source.study, quick=quick)}")
        except DataError as error:
            checked.remarks.append(f"not checked: {error}")
    checked.remarks[:] = dict.fromkeys(checked.remarks)
    return checked.of("images")


def _how(study: Study, *, quick: bool) -> str:
    """As far as was looked."""
    if study.data.kind == "drawn":
        return "the same seed"
    return "the same bytes" if study.data.kind == "folder" and not quick and study.cache != "none" else "the same names"


def _changed(source: Source, folder: Path, *, quick: bool, say: Say) -> Iterator[str]:
    study = source.study
    for side, name in source.images.keys.items():
        found = fingerprint(
            study.data, int(side), classes=study.proxy.classes, cache=study.cache, read=not quick, say=say
        )
        if found != name:
            yield f"those of {study.data.source} at side {side} were {name} and are {found} now: they have changed"
            return
