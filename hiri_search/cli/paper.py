"""Counts of the command `paper`, with their progress."""

from __future__ import annotations

from hiri_search.paper.agreement import Costs, PaperNetwork

_DENSE_CLASSES = {"detection": 80, "segmentation": 150}  # of COCO and ADE20K


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
    from hiri_search.language import parse_network
    from hiri_search.nets.dense.methods import METHODS

    parsed = parse_network(network.spec)
    if not network.method:
        plain = count(parsed, int(network.side))
        return plain.params, plain.macs
    method = METHODS[network.method]
    width, height = map(int, str(network.side).split("x"))
    counted = Counted(parsed, method, (height, width), _DENSE_CLASSES[method.task])
    dense = count_changed(counted, network.change)
    return dense.params, dense.macs
