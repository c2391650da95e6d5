"""What one test leaves behind must not change the numbers of the next."""

import os
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import pytest

try:
    import torch
except ImportError:  # the light installation has none
    torch = None

# What helpers assert shows its values, as in the tests themselves.
pytest.register_assert_rewrite("tests.export", "tests.service", "tests.training")

STATE = TemporaryDirectory(prefix="anomoe-state-")
os.environ["XDG_STATE_HOME"] = STATE.name  # what a service keeps is not for the user's own folder

THREADS = torch.get_num_threads() if torch else 1


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Loading a TorchScript graph sets the number of threads of the whole process, and sums depend on it."""
    yield
    if torch:
        torch.set_num_threads(THREADS)
