"""Verdict on an order of networks: whether it may be believed."""

from __future__ import annotations

from enum import StrEnum


class OrderVerdict(StrEnum):
    """The verdict on an order of networks, by its tau beyond cost."""

    PASSES = "passes"
    WEAK = "weak"
    FAILS = "fails"
    TOO_FEW = "too few to tell"
