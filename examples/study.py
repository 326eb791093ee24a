"""A study in Python: made, planned, run and read. Every call is checked by `mypy --strict`."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import hiri_search


def table8(results: Path) -> hiri_search.StudyResults:
    """Run the paper's Table 8 with tiny settings; the same call again continues it."""
    override = {"proxy.side": 64, "data.train": 32, "data.val": 16, "latency": None, "seeds": 1}
    study = hiri_search.Study.from_yaml("block_mix", profile="laptop", override=override)
    costs: pd.DataFrame = study.networks()
    print(costs[["network", "params (M)", "GFLOPs"]])
    return study.run(results, serial=True)


def search(results: Path) -> hiri_search.StudyResults:
    """Search a small space for accuracy against multiply-adds, within a budget."""
    study = hiri_search.Study(
        title="A small search",
        space="hr(32 e=4)*1..2 -> (hr | cffn | t)(64 e=2|4)*1..2",
        within={"gmacs": "..1"},
        search=hiri_search.SearchConfig(networks=2, sampler="random"),
        confirm=hiri_search.ConfirmConfig(top=1, partners=0, seeds=(0,), epochs="x1"),
        counted=hiri_search.CountConfig(side=64, classes=10),
        proxy=hiri_search.ProxyConfig(width=4, side=32),
        data=hiri_search.DataSource(train=32, val=16),
        recipe=hiri_search.Recipe(epochs=1, batch=16, warmup_epochs=0),
        resources=hiri_search.Resources(cpu=1),
    )
    return study.run(results, serial=True)


def main(folder: Path) -> None:
    """Run both studies, and show what a script or a notebook can do with their results."""
    for results in (table8(folder / "table8"), search(folder / "search")):
        trials: pd.DataFrame = results.trials
        figure: Figure = results.pareto()
        page: Path = results.page().save(results.folder / "page.html")
        names: tuple[str, ...] = results.tables
        print(results, len(trials), len(figure.axes), page, names, results.complete)
    again = hiri_search.load_results(folder / "search")
    print(again.networks[["name", "spec"]])
    try:
        again.table("table8")
    except hiri_search.StudyError as error:
        print(error)


if __name__ == "__main__":
    main(Path("results/examples"))
