"""Verdicts: comparisons in words."""

from __future__ import annotations

from hiri_search.stats.significance import MAX_ESTIMATED_SEEDS, Comparison, p_text


def in_words(comparison: Comparison) -> str:
    """Describe the result of a comparison, and how many more seeds would show a difference."""
    if comparison.p is None:
        return _untested(comparison)
    sides, among = ", one-sided" if comparison.stated else "", f" among {comparison.family} comparisons"
    tested = f"{comparison.seeds} seeds, {p_text(comparison.p_holm)}{among * (comparison.family > 1)}{sides}"
    if comparison.significant:
        better = (comparison.sign > 0) == comparison.scale.up
        return f"{'better' if better else 'worse'} ({tested})"
    if comparison.is_opposite:
        opposite = f"two-sided {p_text(comparison.two_sided_p)} for this comparison alone"
        return f"no difference shown at this budget: in the other direction than stated ({tested}; {opposite})"
    return f"no difference shown at this budget ({tested}){_more(comparison)}"


def _untested(comparison: Comparison) -> str:
    match comparison.seeds:
        case 0:
            return "no seed in common, nothing to compare"
        case 1:
            return "one seed in common cannot be tested: write seeds: 3 or more"
        case seeds if comparison.test and seeds < comparison.test.first:
            return f"{seeds} seeds in common are not tested: the first test is after {comparison.test.first}"
        case seeds:
            return f"the same difference for all {seeds} seeds: no variance for a test; write more seeds"


def _more(comparison: Comparison) -> str:
    """Return how many more seeds would show a worthwhile gain; empty where it is not known which gain is."""
    if comparison.scale.worthwhile is None:
        return ""
    gain = f"{comparison.scale.worthwhile:g} {comparison.scale.unit}".rstrip()
    if comparison.test and comparison.more_seeds:
        return f"; a new study with {comparison.seeds_to_show:,} seeds would show {gain}"
    match comparison.more_seeds:
        case None:
            return f"; more than {MAX_ESTIMATED_SEEDS:,} seeds would show {gain}"
        case 0:
            return f"; this many seeds would show {gain}"
        case 1:
            return f"; 1 more seed would show {gain}"
        case more:
            return f"; {more:,} more seeds would show {gain}"
