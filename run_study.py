"""`python run_study.py STUDY`: the same as `hiri-search run STUDY`."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

RESTARTED = "HIRI_SEARCH_RESTARTED"  # environment variable, set after a restart under `uv`


def main() -> None:
    """Run a study; on a node of a Ray cluster without our packages, restart in an environment that uv installs."""
    try:
        from hiri_search.cli.main import main as command
    except ModuleNotFoundError as missing:
        if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and shutil.which("uv") and RESTARTED not in os.environ:
            _restart_under_uv()
        sys.exit(
            f"error: {missing.name} is not installed for {sys.executable}; `pip install .`, or put `uv run` before the"
            " command. In a Ray job, start Ray with a `python` that has it"
        )
    command(["run", *sys.argv[1:]])


def _restart_under_uv() -> None:
    """Replace this process by the same command under uv, with this node's versions of Python and Ray.

    Return without effect if this Python has no Ray, because then another Python started the node.
    """
    try:
        node_versions = ["--python", platform.python_version(), "--with", f"ray=={version('ray')}"]
    except PackageNotFoundError:
        return
    os.environ[RESTARTED] = "1"
    os.execvp("uv", ["uv", "run", "--no-dev", *node_versions, "run_study.py", *sys.argv[1:]])


if __name__ == "__main__":
    main()
