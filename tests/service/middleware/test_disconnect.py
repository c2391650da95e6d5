"""Work ends with its caller."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request

from service.middleware.disconnect import Disconnect, until_disconnect


def request_of(hangup: Disconnect | None) -> Request:
    state = {} if hangup is None else {"hangup": hangup}
    return Request({"type": "http", "headers": [], "state": state})


@pytest.mark.parametrize("is_watched", [True, False])
def test_result_and_error_pass_through(is_watched: bool) -> None:
    async def fail() -> None:
        raise KeyError("lost")

    async def scenario() -> None:
        request = request_of(asyncio.get_running_loop().create_future() if is_watched else None)
        assert await until_disconnect(request, asyncio.sleep(0, 7)) == 7
        with pytest.raises(KeyError, match="lost"):
            await until_disconnect(request, fail())

    asyncio.run(scenario())


@pytest.mark.parametrize("after_s", [0.0, 0.01])
def test_hangup_cancels_the_work(after_s: float) -> None:
    async def scenario() -> None:
        cancelled = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()

        hangup: Disconnect = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(after_s, hangup.set_result, None)
        with pytest.raises(ClientDisconnect):
            await until_disconnect(request_of(hangup), work())
        assert cancelled.is_set()

    asyncio.run(scenario())


def test_hangup_before_the_work_begins() -> None:
    async def scenario() -> None:
        hangup: Disconnect = asyncio.get_running_loop().create_future()
        hangup.set_result(None)
        with pytest.raises(ClientDisconnect):
            await until_disconnect(request_of(hangup), asyncio.sleep(60))

    asyncio.run(scenario())


def test_hangup_after_the_answer_cancels_nothing() -> None:
    async def scenario() -> None:
        hangup: Disconnect = asyncio.get_running_loop().create_future()

        async def work() -> int:
            hangup.set_result(None)
            return 7

        assert await until_disconnect(request_of(hangup), work()) == 7
        await asyncio.sleep(0.01)

    asyncio.run(scenario())
