"""Settings of all tests of nets."""

import pytest
import torch

torch.set_num_threads(1)  # one thread computes small networks faster than several


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Give every test the same initial weights and inputs in each run."""
    torch.manual_seed(0)
