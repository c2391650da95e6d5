"""Work ends with its caller."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from service.hangup import until_hangup


def request_that_hangs_up(hangup: asyncio.Event) -> Request:
    async def receive() -> Message:
        await hangup.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


def test_result_and_error_pass_through() -> None:
    async def fail() -> None:
        raise KeyError("lost")

    async def scenario() -> None:
        request = request_that_hangs_up(asyncio.Event())
        assert await until_hangup(request, asyncio.sleep(0, 7)) == 7
        with pytest.raises(KeyError, match="lost"):
            await until_hangup(request, fail())

    asyncio.run(scenario())


def test_hangup_cancels_the_work() -> None:
    async def scenario() -> None:
        hangup, cancelled = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()

        asyncio.get_running_loop().call_later(0.01, hangup.set)
        with pytest.raises(ClientDisconnect):
            await until_hangup(request_that_hangs_up(hangup), work())
        assert cancelled.is_set()

    asyncio.run(scenario())
