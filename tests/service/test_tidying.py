"""Memory that much work has left free is given back when it is over, and only then."""

import asyncio
import platform
from contextlib import ExitStack

import pytest

from service import tidying
from service.permits import Permits
from service.process import give_back_free_memory
from service.tidying import MUCH, tidy_when_quiet
from tests.service.test_backends import resident_bytes


@pytest.mark.parametrize(("at_once", "is_tidied"), [(MUCH - 1, 0), (MUCH, 1)])
def test_it_is_tidied_once_after_much_work(
    monkeypatch: pytest.MonkeyPatch, at_once: int, is_tidied: int
) -> None:
    permits, tidied = Permits(2 * MUCH, 1), list[int]()
    monkeypatch.setattr(tidying, "QUIET_S", 0.01)
    monkeypatch.setattr(tidying, "give_back_free_memory", lambda: tidied.append(permits.taken))

    async def scenario() -> None:
        task = asyncio.create_task(tidy_when_quiet(permits.requests))
        with permits.hold():
            with ExitStack() as stack:
                for _ in range(at_once - 1):
                    stack.enter_context(permits.hold())
            await asyncio.sleep(0.1)
            assert tidied == []
        await asyncio.sleep(0.5)
        task.cancel()

    asyncio.run(scenario())
    assert tidied == [0] * is_tidied


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
def test_what_is_free_between_blocks_in_use_goes_back() -> None:
    blocks = [bytes(2**16) for _ in range(2000)]
    last = blocks[-1]
    blocks.clear()
    kept = resident_bytes()
    give_back_free_memory()
    assert resident_bytes() < kept - 2000 * 2**15
    assert len(last) == 2**16
