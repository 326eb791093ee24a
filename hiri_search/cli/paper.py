"""Counts of the command `paper`, with their progress."""

from __future__ import annotations


def count_paper_networks(table: str) -> dict[tuple[str, int], tuple[int, int]]:
    """Count the networks of a table of the paper; return params and multiply-adds by spec and side."""
    from rich.console import Console
    from rich.progress import track

    from hiri_search.cost.flops import count
    from hiri_search.language import parse_network
    from hiri_search.paper.published import networks

    rows = networks(table)
    distinct = dict.fromkeys((spec, side) for spec, side in zip(rows["spec"], rows["side"], strict=True) if spec)
    costs = {}
    title = f"counting {len(distinct)} networks"
    for spec, side in track(list(distinct), title, console=Console(stderr=True), transient=True):
        cost = count(parse_network(spec), side)
        costs[spec, side] = (cost.params, cost.macs)
    return costs
