"""Ray reads its environment variables at import: set those of a run on one machine before that."""

import os

from hiri_search.study.dispatch.ray_session import RAY_ENV, WORKER_ENV, secure_local_ray

for name, value in (RAY_ENV | WORKER_ENV).items():
    os.environ.setdefault(name, value)
secure_local_ray()

import ray  # noqa: E402, F401
