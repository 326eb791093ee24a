"""Export of a trial's network: files from which timm builds it again, a model card, and ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hiri_search.language import DenseNetwork, Network, parse_network
from hiri_search.nets.saved_network import require_onnx, save_for_timm, save_onnx
from hiri_search.networks import is_ours_or_timms, restored
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.export.dense_export import about_dense, check_onnx, known_class_names, save_dense
from hiri_search.study.export.model_card import CardFacts, model_card
from hiri_search.study.ledger.ledger import LedgerContent
from hiri_search.study.ledger.trial import Trial, reproduced
from hiri_search.study.persistence.trial_choice import BEST_TRIAL, checkpoint_of, find_trial
from hiri_search.study.provenance.record import Record, read_record
from hiri_search.system.files import Say, remove, unfinished_path
from hiri_search.system.text import printable
from hiri_search.training.data.datasets import evaluation_config
from hiri_search.training.state import saved_weights
from hiri_search.user_code import NotImportedError, UserCodeError, loaded_code

CARD, ONNX = "README.md", "model.onnx"


@dataclass(frozen=True)
class ExportOptions:
    """Choices of an export."""

    ema: bool = False  # the averaged weights, instead of those that the score of the study is of
    onnx: bool = False
    hub: bool = False  # metadata of the Hugging Face Hub in the model card


def export_network(ledger: LedgerContent, which: str, target: Path, options: ExportOptions, say: Say) -> Trial:
    """Write the network of a trial into a new folder; return the trial. No code of the results folder is run.

    Raises StudyError where there is no such trial, no checkpoint of it, or something at `target`; WeightsError for a
    damaged checkpoint, ExportError where ONNX cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StudyError(f"{target} exists; give a new folder with --output")
    if options.onnx:
        require_onnx()
    record = read_record(ledger)
    study = record.own.study
    score = study.headline.ema if options.ema else study.headline
    trial = find_trial(record.trials, which, study, score)
    path = checkpoint_of(ledger.folder, trial, study, record.trials)
    curve, weights = saved_weights(path, ema=options.ema)
    if reproduced(curve) != reproduced(trial.curve):
        raise StudyError(f"{path} is not that of trial {trial.number} in the ledger: its epochs are others")
    source, network = record.source(trial.network), _network(record, trial)
    side, classes = trial.network.trained.side, source.images.classes
    if options.onnx and isinstance(network, DenseNetwork):
        check_onnx(network)
    model, untrained = restored(network, side, classes, weights), list[str]()
    with _new_folder(target) as folder:
        if isinstance(network, DenseNetwork):
            names = known_class_names(ledger.folder, source.images.fingerprints.get(str(side), ""), classes)
            untrained = save_dense(model, network, folder, about_dense(network, side, classes, names))
        else:
            save_for_timm(model, folder, evaluation_config(side))
        difference = save_onnx(model, side, folder / ONNX) if options.onnx else None
        name, is_best = printable(target.absolute().name), which == BEST_TRIAL
        facts = CardFacts(name, ledger, record, source, trial, network, options.ema, is_best, untrained)
        (folder / CARD).write_text(model_card(facts, hub=options.hub, onnx=options.onnx), encoding="utf-8")
        names = sorted(path.name for path in folder.iterdir())
    say(f"trial {trial.number}: {trial.network.name}, seed {trial.asked.seed}")
    for name in names:
        say(f"wrote {target / name}")
    if difference is not None:
        say(f"the logits of {ONNX} differ from torch's by at most {difference:.0e} of the largest one")
    return trial


def _network(record: Record, trial: Trial) -> Network:
    """Return the network that was trained. StudyError where its code is not imported."""
    network = parse_network(trial.network.trained.spec)
    check_imported(network, record.source(trial.network).study)
    return network


def check_imported(network: Network, study: StudyConfig) -> None:
    """Raise StudyError where the code that a network of a results folder needs is not imported, or another one."""
    if is_ours_or_timms(network):
        return
    try:
        loaded_code(study.code.files)
    except NotImportedError as error:
        raise StudyError(f"'{network}': {error}; give it with --import, if you trust it") from error
    except UserCodeError as error:
        raise StudyError(f"'{network}': {error}") from error


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder that gets the name `target` when the block ends: an error or a kill leaves none there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = unfinished_path(target)
    folder.mkdir()
    try:
        yield folder
        folder.replace(target)  # also takes the place of an empty folder
    except BaseException:
        remove(folder, ignore_errors=True)
        raise
