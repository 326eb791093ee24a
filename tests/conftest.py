"""For all tests."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # what is computed here is small, and several processes share the cores


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded pictures go where the session's other files go."""
    before = os.environ.get("HIRI_SEARCH_CACHE")
    os.environ["HIRI_SEARCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("HIRI_SEARCH_CACHE")
    if before is not None:
        os.environ["HIRI_SEARCH_CACHE"] = before
