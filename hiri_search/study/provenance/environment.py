"""Code version, command line, package versions and machine of a run."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import hiri_search
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.cost.latency.torch_state import find_device
from hiri_search.study.ledger.values import CodeVersion, JsonObject, to_json
from hiri_search.system.hardware import find_machine
from hiri_search.system.redaction import redacted_command, shortened

# Packages that results or tables may depend on. Some are optional: Ray for trials in one process, torchcodec.
PACKAGES = (
    *("torch", "torchvision", "timm", "fvcore", "ray", "optuna", "numpy", "scipy", "pandas", "matplotlib", "pillow"),
    *("torchcodec", "pydantic", "nvidia-ml-py"),
)
ROOT = Path(hiri_search.__file__).parent
MAX_DIFF = 200_000  # characters
GIT_SECONDS = 20  # time limit of a git command


@dataclass(frozen=True)
class RunEnvironment:
    """Code version, command line, package versions and machine of a run, as `StudyStarted` records them."""

    code: CodeVersion
    command: str  # without secrets
    versions: dict[str, str | None]  # of Python and PACKAGES; None: not installed
    machine: JsonObject


def run_environment(command: Sequence[str]) -> RunEnvironment:
    """Return the environment of this process."""
    machine = to_json(find_machine(find_device(LatencyConfig())))
    return RunEnvironment(
        code(),
        redacted_command(command),
        {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        machine | {"system": f"{platform.system()} {platform.release()}"},
    )


def code() -> CodeVersion:
    """Return the version of this package, a digest of its files, and its state in git, if it is in git at all.

    The digest covers names and bytes and does not depend on the folder. `diff` is against `commit`, includes new text
    files, and is cut in the middle where it is very long.
    """
    package_version, digest = _version("hiri-search"), _digest(ROOT)
    if not _git("ls-files", "--error-unmatch", "__init__.py"):
        return CodeVersion(package_version, digest)
    changed = tuple(line[3:] for line in _git("status", "--porcelain", "-uall", "--", ".").splitlines())
    return CodeVersion(package_version, digest, _git("rev-parse", "HEAD").strip(), changed, _diff())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _digest(root: Path) -> str:
    sha256 = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        sha256.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return sha256.hexdigest()[:16]


def _diff() -> str:
    plain = ("diff", "--no-color", "--no-ext-diff", "--no-textconv")
    new = _git("ls-files", "--others", "--exclude-standard", "--", ".").splitlines()
    added = (_git(*plain, "--no-index", "--", os.devnull, name) for name in new)
    return shortened("".join([_git(*plain, "HEAD", "--", "."), *added]), MAX_DIFF)


def _git(*words: str) -> str:
    """Return the output of git on this package; empty where there is no git or no repository."""
    command = ["git", "-c", "core.quotePath=false", "-C", str(ROOT), *words]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, env=environment, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    good_codes = (0, 1) if "--no-index" in words else (0,)  # 1: the files differ
    return done.stdout.decode(errors="replace") if done.returncode in good_codes else ""
