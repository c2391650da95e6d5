"""Several pictures asked about at once, their answers in the order of the pictures."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    ask: Callable[[Item], Result], items: Iterable[Item], at_once: int
) -> Generator[Result, None, None]:
    """The result of each item; no more than `at_once` items are taken whose results are not given yet."""
    with ThreadPoolExecutor(at_once) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(ask, item))
                if len(under_way) == at_once:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


async def in_order_async(
    ask: Callable[[Item], Awaitable[Result]], items: Iterable[Item] | AsyncIterable[Item], at_once: int
) -> AsyncGenerator[Result, None]:
    """As `in_order`; what is under way when the caller leaves is cancelled. Raises: ValueError below 1."""
    if at_once < 1:
        raise ValueError(f"at_once: 1 or more is expected, got {at_once}")
    under_way: deque[asyncio.Future[Result]] = deque()
    try:
        async for item in _each(items):
            under_way.append(asyncio.ensure_future(ask(item)))
            if len(under_way) == at_once:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for future in under_way:
            future.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _each(items: Iterable[Item] | AsyncIterable[Item]) -> AsyncGenerator[Item, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
