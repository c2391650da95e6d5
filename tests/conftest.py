"""What one test leaves behind must not change the numbers of the next."""

from collections.abc import Iterator

import pytest

try:
    import torch
except ImportError:  # the light installation has none
    torch = None

THREADS = torch.get_num_threads() if torch else 1


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Loading a TorchScript graph sets the number of threads of the whole process, and sums depend on it."""
    yield
    if torch:
        torch.set_num_threads(THREADS)
