"""A future that is awaited leaves nothing behind, and its cancellation is told."""

import asyncio
import gc
import weakref

import pytest

from service.scheduling.futures import result_of


class KeptError(Exception):
    """Python's own cannot be referred to weakly."""


def test_what_a_future_gives_is_given_and_no_cancellation_told() -> None:
    async def scenario() -> None:
        cancelled: list[asyncio.Future[int]] = []
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(7)
        assert await result_of(future, cancelled.append) == 7
        assert cancelled == []

    asyncio.run(scenario())


def test_a_cancellation_is_told_with_the_future_which_is_cancelled() -> None:
    async def scenario() -> None:
        cancelled: list[bool] = []
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(result_of(future, lambda one: cancelled.append(one.cancelled())))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cancelled == [True]

    asyncio.run(scenario())


def test_an_error_is_gone_with_the_last_who_knows_it() -> None:
    async def scenario() -> None:
        def failed() -> "asyncio.Future[int]":
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            error = KeptError()
            errors.append(weakref.ref(error))
            future.set_exception(error)
            return future

        errors: list[weakref.ref[KeptError]] = []
        with pytest.raises(KeptError):
            await result_of(failed(), lambda _: None)
        await asyncio.sleep(0)
        assert errors[0]() is None

    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()
