"""The tutorial notebook runs from top to bottom, and its tables are those of the files that it leaves."""

from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

import hiri_search

NOTEBOOK = Path(__file__).parents[2] / "examples" / "tutorial.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client", "ignore::RuntimeWarning:zmq")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(hiri_search.__file__).parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "remove the outputs: their numbers say nothing"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("text/html" in data for data in shown) >= 6
    assert sum("image/png" in data for data in shown) == 1
    for name, rows in (("notebook", 10), ("mine", 4)):
        results = hiri_search.load_results(tmp_path / "results" / name)
        assert len(results.trials) == rows
        file = pd.read_csv(results.folder / "report" / "trials.csv")
        assert file["top1"].tolist() == results.trials["top1"].tolist()
