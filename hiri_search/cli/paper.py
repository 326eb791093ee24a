"""Counts of the command `paper`, with their progress."""

from __future__ import annotations

from hiri_search.language.dense_network import CLASSES_OF_TASKS
from hiri_search.paper.agreement import Costs, PaperNetwork


def count_paper_networks(table: str) -> dict[PaperNetwork, Costs]:
    """Count the networks of a table of the paper."""
    from rich.console import Console
    from rich.progress import track

    from hiri_search.paper.agreement import counted_networks

    distinct = counted_networks(table)
    title = f"counting {len(distinct)} networks"
    return {
        each: count_paper_network(each) for each in track(distinct, title, console=Console(stderr=True), transient=True)
    }


def count_paper_network(network: PaperNetwork) -> Costs:
    """Count one network of the paper."""
    from hiri_search.cost.dense_changes import Counted, count_changed
    from hiri_search.cost.flops import count
    from hiri_search.language import DenseNetwork, parse_backbone

    backbone = parse_backbone(network.spec)
    if not network.method:
        plain = count(backbone, network.side)
        return plain.params, plain.macs
    dense = DenseNetwork.of(network.method, backbone)
    counted = Counted(dense, network.side, CLASSES_OF_TASKS[dense.method.task])
    cost = count_changed(counted, network.change)
    return cost.params, cost.macs
