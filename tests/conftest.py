"""Settings of all tests: environment of Ray and torch, order of tests, cache folder."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors in tests are small, and several processes share the cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests marked `waits` first: one process waits in them while the others compute."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the cache of decoded images into the temporary folder of the session."""
    original = os.environ.get("HIRI_SEARCH_CACHE")
    os.environ["HIRI_SEARCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("HIRI_SEARCH_CACHE")
    if original is not None:
        os.environ["HIRI_SEARCH_CACHE"] = original
