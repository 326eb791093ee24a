"""Networks at full size by what a user writes for one: a spec, a name in the paper, or a trial of a results folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from hiri_search.language import DenseNetwork, Network, TimmNetwork, parse_network
from hiri_search.language.dense_network import InputSize
from hiri_search.study.errors import StudyError
from hiri_search.system.text import first_names
from hiri_search.system.units import PAPER_SIDE

if TYPE_CHECKING:
    import pandas as pd

TRIAL_MARK = "#"  # between a results folder and a trial of it
MAX_FOLDER_NAME = 48  # characters; in place of a longer name of a network its key is used
_NAME = re.compile(r"[A-Za-z][\w.+ @-]*")


@dataclass(frozen=True)
class FullNetwork:
    """A network to train at full size."""

    name: str  # of the row of the study
    network: Network
    side: InputSize

    @property
    def task(self) -> str:
        """The task that the network is for."""
        return self.network.method.task if isinstance(self.network, DenseNetwork) else "classification"

    @property
    def default_folder(self) -> Path:
        """The results folder where none is given."""
        name = re.sub(r"[^\w.-]+", "_", self.name).strip("_")
        return Path("results") / f"train_{name if len(name) <= MAX_FOLDER_NAME else self.network.key}"


def find_network(text: str, side: InputSize | None) -> FullNetwork:
    """Return the network of a spec, of a name in Table 2 such as HIRI-ViT-S, or of a trial: `RESULTS#TRIAL`.

    Without a side it has that of the trial, of the table, of timm's configuration, or of the paper's images. Raises
    SpecError for a spec that cannot be read, StudyError where there is no such trial, or its code is not imported.
    """
    text = text.strip()
    if TRIAL_MARK in text:
        folder, _, which = text.rpartition(TRIAL_MARK)
        return _of_trial(Path(folder), which, side)
    if _NAME.fullmatch(text):
        return _of_paper(text, side)
    network = parse_network(text)
    return FullNetwork(text, network, side or _usual_side(network))


def has_own_side(text: str) -> bool:
    """Return whether a text is a trial, or can only be a name of Table 2: a spec has brackets or a colon."""
    return TRIAL_MARK in text or _NAME.fullmatch(text.strip()) is not None


def _of_trial(folder: Path, which: str, side: InputSize | None) -> FullNetwork:
    from hiri_search.study.export.network_export import check_imported
    from hiri_search.study.ledger.ledger import read_ledger
    from hiri_search.study.persistence.trial_choice import find_trial
    from hiri_search.study.provenance.record import read_record

    record = read_record(read_ledger(folder))
    study = record.own.study
    trial = find_trial(record.trials, which, study, study.headline)
    network = parse_network(trial.network.spec)
    check_imported(network, record.source(trial.network).study)
    return FullNetwork(f"{folder.resolve().name} trial {trial.number}", network, side or trial.network.side)


def _of_paper(name: str, side: InputSize | None) -> FullNetwork:
    """Return the network that Table 2 calls so: at this side, else at the first of 448 and its others."""
    rows = table_rows("2")
    rows = rows.assign(name=rows["row"].str.partition(" @ ")[0])
    found = rows[(rows["row"] == name) | (rows["name"] == name)]
    if found.empty:
        near = first_names(get_close_matches(name, set(rows["name"]), n=3, cutoff=0.4) or ["HIRI-ViT-S"])
        raise StudyError(f"Table 2 has no network {name!r}; write a spec, timm:NAME, RESULTS#TRIAL, or {near}")
    own = found[found["side"] == (side or PAPER_SIDE)]
    row = (found if own.empty else own).iloc[0]
    return FullNetwork(name, parse_network(row["spec"]), side or int(row["side"]))


def _usual_side(network: Network) -> InputSize:
    if isinstance(network, DenseNetwork):
        from hiri_search.study.config.sections.dense import PAPER_SIZES  # slow import

        return PAPER_SIZES[network.method.task]
    if isinstance(network, TimmNetwork):
        from hiri_search.networks import usual_side  # slow import

        return usual_side(network)
    return PAPER_SIDE


def table_rows(table: str) -> pd.DataFrame:
    """Return the rows of a table of the paper whose networks can be built."""
    from hiri_search.paper.published import networks

    return (rows := networks(table))[rows["spec"] != ""]
