"""What the text tower said about class names, kept so that a known name costs nothing."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from service.metrics import Metrics
from service.zero_shot.text_tower import ClassText

Key = tuple[str, str]
Encode = Callable[[str], Awaitable[ClassText]]


class TextCache:
    """The `capacity` names used last, by digest of their model; used from the event loop only.

    A name asked for while it is being encoded waits for that and counts as a hit: the text tower runs
    once for it. A caller who leaves does not stop the work that others may wait for.
    """

    def __init__(self, capacity: int, metrics: Metrics) -> None:
        self._capacity = capacity
        self._known: OrderedDict[Key, ClassText] = OrderedDict()
        self._under_way: dict[Key, asyncio.Task[ClassText]] = {}
        self._hits = metrics.text_cache.labels("hit")
        self._misses = metrics.text_cache.labels("miss")
        metrics.text_cache_size.set_function(lambda: len(self._known))

    async def texts(self, digest: str, names: Sequence[str], encode: Encode) -> list[ClassText]:
        """The text of each name, in order; `encode` is called at once for each name that is new.

        Raises: whatever `encode` raises; such a name is not kept.
        """
        return await asyncio.gather(*(self._text((digest, name), encode) for name in names))

    async def _text(self, key: Key, encode: Encode) -> ClassText:
        if key in self._known:
            self._hits.inc()
            self._known.move_to_end(key)
            return self._known[key]
        if key in self._under_way:
            self._hits.inc()
        else:
            self._misses.inc()
            self._begin(key, encode)
        return await asyncio.shield(self._under_way[key])

    def _begin(self, key: Key, encode: Encode) -> None:
        async def work() -> ClassText:
            return await encode(key[1])

        def done(task: asyncio.Task[ClassText]) -> None:
            del self._under_way[key]
            if not task.cancelled() and task.exception() is None:
                self._keep(key, task.result())

        task = self._under_way[key] = asyncio.create_task(work())
        task.add_done_callback(done)

    def _keep(self, key: Key, text: ClassText) -> None:
        self._known[key] = text
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
