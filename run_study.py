"""`python run_study.py STUDY`: the same as `hiri-search run STUDY`."""

import os
import platform
import shutil
import sys
from importlib.metadata import version

BUILDS = "HIRI_SEARCH_BUILDS"  # set where `uv` has been tried


def main() -> None:
    """Run it; on a bare node of a Ray cluster, in an environment that uv builds there from pyproject.toml."""
    try:
        from hiri_search.cli import main as command
    except ModuleNotFoundError as missing:
        if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and shutil.which("uv") and BUILDS not in os.environ:
            os.environ[BUILDS] = "1"
            like_here = ["--python", platform.python_version(), "--with", f"ray=={version('ray')}"]
            os.execvp("uv", ["uv", "run", "--no-dev", *like_here, "run_study.py", *sys.argv[1:]])
        sys.exit(f"error: {missing.name} is not installed here; `pip install .`, or put `uv run` before the command")
    command(["run", *sys.argv[1:]])


if __name__ == "__main__":
    main()
