"""`python run_study.py STUDY`: the same as `hiri-search run STUDY`."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

BUILDS = "HIRI_SEARCH_BUILDS"  # set where `uv` has been tried


def main() -> None:
    """Run it; on a bare node of a Ray cluster, in an environment that uv builds there from pyproject.toml."""
    try:
        from hiri_search.cli.main import main as command
    except ModuleNotFoundError as missing:
        if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and shutil.which("uv") and BUILDS not in os.environ:
            _build()
        sys.exit(
            f"error: {missing.name} is not installed for {sys.executable}; `pip install .`, or put `uv run` before the"
            " command. In a job: start Ray where `python` is the one that has it"
        )
    command(["run", *sys.argv[1:]])


def _build() -> None:
    """Begin anew under uv, with the Python and the Ray of this node; nothing where this Python is not the node's."""
    try:
        like_here = ["--python", platform.python_version(), "--with", f"ray=={version('ray')}"]
    except PackageNotFoundError:
        return
    os.environ[BUILDS] = "1"
    os.execvp("uv", ["uv", "run", "--no-dev", *like_here, "run_study.py", *sys.argv[1:]])


if __name__ == "__main__":
    main()
