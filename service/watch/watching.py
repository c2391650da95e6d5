"""Every picture of a watched folder: judged, written down, moved."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from anomoe_client import AsyncClient, ClientError, Detection, PictureError, ProblemError, UnreachableError
from anomoe_client.answers import without_maps
from service.watch.folder import Claim, Place, WatchedFolder
from service.watch.journal import WatchError

AT_ONCE = 4
LONGEST_PAUSE_S = 10.0
ABOUT_THE_PICTURE = frozenset({"malformed", "not-a-picture", "too-large", "undecodable-picture", "internal"})


@dataclass(frozen=True)
class Watch:
    """What is done with a folder's pictures; `filed` is told each line of the log, `warned` what fails."""

    folder: WatchedFolder
    query: Mapping[str, Any]
    filed: Callable[[dict[str, object]], None]
    warned: Callable[[str], None]

    async def run(self, client: AsyncClient, *, once: bool) -> None:
        """Judge what is there and what comes; with `once` until nothing is left.

        Raises: WatchError when the service would refuse every picture, OSError when the log or a folder
        cannot be written, ClientError with `once` when the service does not answer.
        """
        failures = 0
        while not (once and self.folder.is_empty):
            try:
                await self._judge(client)
                failures = 0
            except ClientError as error:
                if once:
                    raise
                failures += 1
                self.warned(str(error))
            pause_s = max(0.02, self.folder.settle_s / 2)
            await asyncio.sleep(min(LONGEST_PAUSE_S, pause_s * 2**failures))

    async def _judge(self, client: AsyncClient) -> None:
        """Every picture that is whole now. Raises: as `run`, ClientError when the service does not answer."""
        under_way: deque[Claim] = deque()

        def taken() -> Iterator[str]:
            for claim in self.folder.take():
                under_way.append(claim)
                yield str(claim.path)

        async with aclosing(client.detect_many(taken(), at_once=AT_ONCE, **self.query)) as results:
            async for result in results:
                claim = under_way.popleft()
                if not claim.path.exists():
                    self.folder.forget(claim)
                    self.warned(f"{claim.path}: somebody took it away")
                elif claim.is_unchanged:  # else it was not whole, and is judged again
                    self.filed(self.folder.put(claim, place_of(result), told_of(result)))


def place_of(result: Detection | ClientError) -> Place:
    """Where a picture belongs: nothing is ok unless a known product was found to be normal.

    Raises: the error when it is not about this picture, WatchError when every picture would have it.
    """
    if isinstance(result, ClientError):
        check_is_about_picture(result)
        return "unknown"
    if result.category is None or result.reason in ("unknown_product", "not_this_product"):
        return "unknown"
    if result.is_anomalous or result.verdict == "anomalous":
        return "anomaly"
    return "ok" if result.verdict in (None, "normal") else "unknown"


def check_is_about_picture(error: ClientError) -> None:
    """Raises: the error when another request may be answered, WatchError when none would be."""
    if error.is_transient or isinstance(error, UnreachableError):
        raise error
    if isinstance(error, ProblemError):  # also of a proxy with a limit of its own
        is_about = error.type.rpartition(":")[2] in ABOUT_THE_PICTURE or error.status == 413
    else:
        is_about = isinstance(error, PictureError)
    if not is_about:
        raise WatchError(str(error))


def told_of(result: Detection | ClientError) -> Mapping[str, object]:
    """What the log says of a picture."""
    if isinstance(result, ClientError):
        return {"error": str(result)}
    return without_maps(result)
