"""The event loop sleeps once for all that was refused in some of its steps."""

import asyncio

import pytest

from service.middleware.refusal_pacing import PAUSE_S, STEPS, RefusalPacing

pytestmark = pytest.mark.alone


def test_one_pause_once_what_was_read_before_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[object] = []
    monkeypatch.setattr("service.middleware.refusal_pacing.sleep", order.append)

    async def scenario() -> None:
        pacing = RefusalPacing()

        def refused(number: int) -> None:
            order.append(number)
            pacing.note()

        for number in range(STEPS):  # one in each step of the loop
            asyncio.get_running_loop().call_soon(refused, number)
            await asyncio.sleep(0)
        for _ in range(STEPS):
            await asyncio.sleep(0)
        assert order == [*range(STEPS), PAUSE_S]
        refused(STEPS)
        for _ in range(STEPS + 1):
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert order == [*range(STEPS), PAUSE_S, STEPS, PAUSE_S]
