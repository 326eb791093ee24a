"""Code version, command line, package versions and machine of a run."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import hiri_search
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.cost.latency.torch_state import find_device
from hiri_search.system.hardware import find_machine
from hiri_search.system.redaction import redacted_command, shortened

# Whatever a digit, or a table's letter, may depend on; None where it is not installed: Ray is not needed for trials in
# one process, torchcodec decodes photographs where it is there.
PACKAGES = (
    *("torch", "torchvision", "timm", "fvcore", "ray", "optuna", "numpy", "scipy", "pandas", "matplotlib", "pillow"),
    *("torchcodec", "pydantic", "nvidia-ml-py"),
)
ROOT = Path(hiri_search.__file__).parent
LONGEST_DIFF = 200_000  # characters
GIT_SECONDS = 20


def run_environment(command: Sequence[str]) -> dict[str, Any]:
    """In plain values."""
    return {
        "code": code(),
        "command": redacted_command(command),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": asdict(find_machine(find_device(LatencyConfig())))
        | {"system": f"{platform.system()} {platform.release()}"},
    }


def code() -> dict[str, Any]:
    """This package: its version, a digest of its files, and what git knows of it, if it is in git at all.

    `digest` is of names and bytes, the same wherever they lie. `diff` is against `commit`, with new files of text,
    and has its middle left out where it is very long.
    """
    known = {"version": _version("hiri-search"), "digest": _digest(ROOT)}
    if not _git("ls-files", "--error-unmatch", "__init__.py"):
        return {**known, "commit": None, "changed": [], "diff": ""}
    changed = [line[3:] for line in _git("status", "--porcelain", "-uall", "--", ".").splitlines()]
    return {**known, "commit": _git("rev-parse", "HEAD").strip(), "changed": changed, "diff": _diff()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _digest(root: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return whole.hexdigest()[:16]


def _diff() -> str:
    plain = ("diff", "--no-color", "--no-ext-diff", "--no-textconv")
    new = _git("ls-files", "--others", "--exclude-standard", "--", ".").splitlines()
    added = (_git(*plain, "--no-index", "--", os.devnull, name) for name in new)
    return shortened("".join([_git(*plain, "HEAD", "--", "."), *added]), LONGEST_DIFF)


def _git(*words: str) -> str:
    """What git says of this package; nothing where there is no git, or it knows nothing of it."""
    command = ["git", "-c", "core.quotePath=false", "-C", str(ROOT), *words]
    alone = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, env=alone, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    usual = (0, 1) if "--no-index" in words else (0,)
    return done.stdout.decode(errors="replace") if done.returncode in usual else ""
