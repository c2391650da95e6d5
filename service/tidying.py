"""What much work has left free in the heaps goes back to the system once nothing is under way."""

import asyncio

from service.permits import Room
from service.process import give_back_free_memory

QUIET_S = 5.0
MUCH = 8  # requests at once; what fewer leave is not worth that the next picture pays for new pages


async def tidy_when_quiet(requests: Room) -> None:
    """Whenever many requests were under way, and then none for QUIET_S, give free memory back; never ends."""
    was_much = False
    while True:
        await asyncio.sleep(QUIET_S)
        most, requests.most = requests.most, requests.taken
        was_much |= most >= MUCH
        if was_much and not most:
            await asyncio.to_thread(give_back_free_memory)
            was_much = False
