"""Ray keeps what it read of its surroundings when it was imported: here, what a run on one machine says."""

import os

from hiri_search.study.dispatch.ray_executor import RAY_ENV, WORKER_ENV, _be_private

for name, value in (RAY_ENV | WORKER_ENV).items():
    os.environ.setdefault(name, value)
_be_private()

import ray  # noqa: E402, F401
