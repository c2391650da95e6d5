"""What much work, or a model that has left, leaves behind goes back to the system."""

import asyncio
import gc

from service.permits import Room
from service.process import give_back_free_memory

QUIET_S = 5.0
MUCH = 8  # requests at once; what fewer leave is not worth that the next picture pays for new pages


def tidy() -> None:
    """Find what only itself refers to, as a model's stages do, and give back what is free in the heaps."""
    gc.collect()
    give_back_free_memory()


async def tidy_when_quiet(requests: Room) -> None:
    """Whenever many requests were under way, and then none for QUIET_S, tidy; never ends."""
    was_much = False
    while True:
        await asyncio.sleep(QUIET_S)
        most, requests.most = requests.most, requests.taken
        was_much |= most >= MUCH
        if was_much and not most:
            await asyncio.to_thread(tidy)
            was_much = False
