"""For all tests."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: beside tests that compute it would hardly run
os.environ.setdefault("OMP_NUM_THREADS", "1")  # what is computed here is small, and several processes share the cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that wait come first: of several processes the first takes them, and the others compute meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images go where the session's other files go."""
    before = os.environ.get("HIRI_SEARCH_CACHE")
    os.environ["HIRI_SEARCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("HIRI_SEARCH_CACHE")
    if before is not None:
        os.environ["HIRI_SEARCH_CACHE"] = before
