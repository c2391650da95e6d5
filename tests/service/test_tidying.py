"""Memory that is free goes back to the system."""

import platform

import pytest

from service.process import give_back_free_memory
from tests.service.test_backends import resident_bytes


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
def test_what_is_free_between_blocks_in_use_goes_back() -> None:
    blocks = [bytes(2**16) for _ in range(2000)]
    last = blocks[-1]
    blocks.clear()
    kept = resident_bytes()
    give_back_free_memory()
    assert resident_bytes() < kept - 2000 * 2**15
    assert len(last) == 2**16
