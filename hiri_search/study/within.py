"""What a search walks: a space, or what of it lies within a budget."""

from __future__ import annotations

from functools import partial
from math import inf

from hiri_search.cost.budget import Budgeted, BudgetError
from hiri_search.language import Net
from hiri_search.study.candidates import space_of
from hiri_search.study.config import Study
from hiri_search.study.errors import StudyError
from hiri_search.study.facts import milliseconds
from hiri_search.study.unseen import Walkable


def walkable(study: Study) -> Walkable:
    """The space of a search, inside its budget if it has one. StudyError where no network lies in that.

    Counting for a budget what no network has been counted for before takes seconds.
    """
    space, band = space_of(study), study.band
    if band is None:
        return space
    try:
        side, classes = study.counted.side, study.counted.classes
        return Budgeted(space, band, side, classes=classes, measure=partial(_measured, study))
    except BudgetError as error:
        raise StudyError(f"within: {error}") from error


def _measured(study: Study, net: Net) -> float:
    """What does not fit into memory keeps no limit."""
    found = milliseconds(study, net)
    return inf if found is None else found
