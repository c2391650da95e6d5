"""What the text tower said about class names, kept so that a known name costs nothing."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from service.inference.text_tower import ClassText
from service.metrics import Metrics

Key = tuple[str, str]
Turn = Callable[[], AbstractAsyncContextManager[None]]
Encode = Callable[[str], Awaitable[ClassText]]


class TextCache:
    """The `capacity` names used last, by digest of their model; used from the event loop only.

    A name asked for while it is being encoded waits for that and counts as a hit: the text tower runs
    once for it. Of callers who leave only the last one stops it.
    """

    def __init__(self, capacity: int, metrics: Metrics) -> None:
        self._capacity = capacity
        self._known: OrderedDict[Key, ClassText] = OrderedDict()
        self._under_way: dict[Key, _UnderWay] = {}
        self._hits = metrics.text_cache.labels("hit")
        self._misses = metrics.text_cache.labels("miss")
        metrics.text_cache_size.set_function(lambda: len(self._known))

    async def texts(self, digest: str, names: Sequence[str], turn: Turn, encode: Encode) -> list[ClassText]:
        """The text of each name, in order; `encode` is called for each that is new once it has the turn.

        Raises: whatever `turn` and `encode` raise; such a name is not kept.
        """
        texts = [asyncio.ensure_future(self._text((digest, name), turn, encode)) for name in names]
        try:
            return await asyncio.gather(*texts)
        finally:
            while texts:  # after an error, whose traceback holds this frame, some are left
                texts.pop().cancel()

    async def _text(self, key: Key, turn: Turn, encode: Encode) -> ClassText:
        if self._is_new(key):
            async with turn():  # of every caller's own, so that none waits behind what another has in line
                if self._is_new(key):
                    self._misses.inc()
                    return await self._result(key, self._begin(key, encode))
        self._hits.inc()
        if key in self._under_way:
            return await self._result(key, self._under_way[key])
        self._known.move_to_end(key)
        return self._known[key]

    def _is_new(self, key: Key) -> bool:
        return key not in self._known and key not in self._under_way

    async def _result(self, key: Key, under_way: "_UnderWay") -> ClassText:
        under_way.waiting += 1
        try:
            return await asyncio.shield(under_way.task)
        finally:
            under_way.waiting -= 1
            if not under_way.waiting:
                self._end(key, under_way)
                under_way.task.cancel()
            del under_way  # as above

    def _begin(self, key: Key, encode: Encode) -> "_UnderWay":
        async def work() -> ClassText:
            return await encode(key[1])

        def done(task: asyncio.Task[ClassText]) -> None:
            self._end(key, under_way)
            if not task.cancelled() and task.exception() is None:
                self._keep(key, task.result())

        under_way = self._under_way[key] = _UnderWay(asyncio.create_task(work()))
        under_way.task.add_done_callback(done)
        return under_way

    def _end(self, key: Key, under_way: "_UnderWay") -> None:
        """From now on the name is known, or new again."""
        if self._under_way.get(key) is under_way:
            del self._under_way[key]

    def _keep(self, key: Key, text: ClassText) -> None:
        self._known[key] = text
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)


@dataclass(eq=False)
class _UnderWay:
    """A name that is being encoded, and how many wait for it."""

    task: asyncio.Task[ClassText]
    waiting: int = 0
