"""Checks of checkpoints and of the images on disk."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.layout import CHECKPOINTS, IMAGE_FOLDER, LAST_CHECKPOINT
from hiri_search.study.ledger.trial import Trial, reproduced, training_digest
from hiri_search.study.persistence.checkpoints import existing
from hiri_search.study.provenance.record import Record, Source
from hiri_search.study.provenance.verify.finding import Finding, Findings
from hiri_search.system.checksums import find_damage, has_checksums
from hiri_search.system.files import Say
from hiri_search.training.data.decode_cache import cache_folder, damage_of
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.inputs.study_images import name_of_images
from hiri_search.training.job import Epoch
from hiri_search.training.loop import CURVE
from hiri_search.training.state import curve_in

NOT_READ_AGAIN = (
    "not read again, as that would run its code; the fingerprint stands for no more than this code, its arguments, the"
    " numbers of images, the classes, and what it says of itself"
)


def check_checkpoints(record: Record, *, quick: bool) -> Finding:
    """Check that each checkpoint belongs to a trial and has its curve; no code in a checkpoint is executed."""
    checked, names = Findings(), sorted(existing(record.folder))
    for name in names:
        trials = [trial for trial in record.trials if training_digest(trial) == name]
        where = f"{CHECKPOINTS}/{name}"
        if not trials:
            checked.faults.append(f"{where} belongs to no trial")
        elif not quick:
            checked.faults += [f"{where}: {fault}" for fault in _unlike_trial(record.folder / where, trials[0])]
    how = "belong to trials; not opened" if quick else "belong to trials and hold their curves"
    checked.remarks.append(f"{len(names):,} {how}" if names else "there are none")
    return checked.finding("checkpoints")


def _unlike_trial(folder: Path, trial: Trial) -> Iterator[str]:
    """Yield the differences between a checkpoint and its trial in the epochs that both have.

    The checkpoint may have one epoch more, if its run was killed, or fewer, if a checkpoint was lost.
    """
    curve = curve_in(folder / LAST_CHECKPOINT)
    if curve is None:
        yield f"{LAST_CHECKPOINT} cannot be read as a checkpoint of ours"
        return
    common = min(len(curve), len(trial.curve))
    too_long = trial.state == "finished" and len(curve) > common
    if too_long or reproduced(curve[:common]) != reproduced(trial.curve[:common]):
        yield f"{LAST_CHECKPOINT} holds another curve than trial {trial.number}"
    if (folder / CURVE).is_file():
        yield from _table_faults(folder / CURVE, curve)


def _table_faults(path: Path, curve: Sequence[Epoch]) -> Iterator[str]:
    """Yield the first line of a curve table that differs from the checkpoint; the table may lack the last epoch."""
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    expected = [{name: _cell(epoch.row().get(name)) for name in row} for row, epoch in zip(rows, curve, strict=False)]
    if rows != expected or len(rows) not in (len(curve), len(curve) - 1):  # it is written after the checkpoint
        pairs = enumerate(zip(rows, expected, strict=False), 2)
        line = next((number for number, (row, right) in pairs if row != right), len(rows) + 1)
        yield f"{CURVE}, line {line}, is not what {LAST_CHECKPOINT} holds"


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def check_images(record: Record, *, quick: bool, say: Say) -> Finding:
    """Check that images on this machine, and their decoded copies, are those of their study.

    A quick check reads no images, and of decoded copies as much as a run does.
    """
    checked = Findings()
    for source in record.source_by_folder.values():
        try:
            checked.faults += _changed(source, quick=quick, say=say)
            checked.remarks.append(f"{source.study.data.source}: {_extent(source.study, quick=quick)}")
            _check_decoded(source, record.folder, checked, quick=quick)
        except DataError as error:
            checked.remarks.append(f"not checked: {error}")
    checked.remarks[:] = dict.fromkeys(checked.remarks)
    return checked.finding("images")


def _extent(study: StudyConfig, *, quick: bool) -> str:
    """Return the property of the images that the check compares."""
    if study.data.kind == "drawn":
        return "the same seed"
    if study.data.kind == "python":
        return NOT_READ_AGAIN
    return "the same bytes" if study.data.kind == "folder" and not quick and study.cache != "none" else "the same names"


def _changed(source: Source, *, quick: bool, say: Say) -> Iterator[str]:
    study = source.study
    if study.data.kind == "python":  # a results folder runs no code
        return
    for side, recorded in source.images.fingerprints.items():
        now = name_of_images(
            study.data, int(side), classes=study.proxy.classes, cache=study.cache, read=not quick, say=say
        )
        if now != recorded:
            change = f"those of {study.data.source} at side {side} were {recorded} and are {now} now"
            yield f"{change}: they have changed, or this version of hiri_search reads them otherwise"
            return


def _check_decoded(source: Source, folder: Path, checked: Findings, *, quick: bool) -> None:
    """Compare the decoded copies on this machine, which trials may have been trained on, with their checksums."""
    for name in source.images.fingerprints.values():
        copy = cache_folder(folder / IMAGE_FOLDER) / name
        if copy.is_dir() and (damage := find_damage(copy, whole=not quick)):
            sentence = f"{damage_of(copy, damage)}; the next run makes them again"
            (checked.faults if has_checksums(copy) else checked.remarks).append(sentence)
