"""The client for programs with an event loop of asyncio."""

from __future__ import annotations

from asyncio import sleep, to_thread
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import httpx2

from anomoe_client.answers import Detection, ZeroShotDetection
from anomoe_client.errors import ClientError
from anomoe_client.in_order import in_order_async
from anomoe_client.parameters import DetectParameters, ZeroShotParameters
from anomoe_client.retry import Attempts, Patience
from anomoe_client.service import Answer, Picture, Service, bytes_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

Result = TypeVar("Result")
Pictures = Iterable[Picture] | AsyncIterable[Picture]


class AsyncClient:
    """As `Client`, for an `async with` statement; `transport` takes the place of the network."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry_s: float = 60.0,
        deadline_s: float | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._service = Service(url, key, Patience(timeout_s, retry_s, deadline_s))
        self._http = httpx2.AsyncClient(
            base_url=self._service.address,
            headers=self._service.headers,
            timeout=timeout_s,
            transport=transport or self._service.transport(httpx2.AsyncHTTPTransport),
        )

    async def __aenter__(self) -> AsyncClient:
        """Use the connections."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def detect(self, picture: Picture, **parameters: Unpack[DetectParameters]) -> Detection:
        """The verdict on one picture. Raises: ClientError when there is none."""
        return await self._ask("/detect", picture, parameters, Detection)

    async def zero_shot(
        self, picture: Picture, **parameters: Unpack[ZeroShotParameters]
    ) -> ZeroShotDetection:
        """The verdict on one picture with each class name. Raises: ClientError when there is none."""
        return await self._ask("/zero-shot", picture, parameters, ZeroShotDetection)

    def detect_many(
        self, pictures: Pictures, *, at_once: int = 8, **parameters: Unpack[DetectParameters]
    ) -> AsyncGenerator[Detection | ClientError, None]:
        """An answer or an error for each picture, in order; `at_once` pictures are under way at most."""
        return in_order_async(_told(partial(self.detect, **parameters)), pictures, at_once)

    def zero_shot_many(
        self, pictures: Pictures, *, at_once: int = 8, **parameters: Unpack[ZeroShotParameters]
    ) -> AsyncGenerator[ZeroShotDetection | ClientError, None]:
        """As `detect_many`, with class names."""
        return in_order_async(_told(partial(self.zero_shot, **parameters)), pictures, at_once)

    async def _ask(
        self, path: str, picture: Picture, parameters: Mapping[str, object], wanted: type[Answer]
    ) -> Answer:
        data = picture if isinstance(picture, bytes) else await to_thread(bytes_of, picture)
        attempts = Attempts(self._service.patience)
        while True:
            try:
                with self._service.failures():
                    response = await self._http.post(
                        path, **self._service.request(data, parameters, attempts)
                    )
                return self._service.answer(response, wanted)
            except ClientError as error:
                await sleep(attempts.pause_s(error))


def _told(
    ask: Callable[[Picture], Awaitable[Result]],
) -> Callable[[Picture], Awaitable[Result | ClientError]]:
    async def told(picture: Picture) -> Result | ClientError:
        try:
            return await ask(picture)
        except ClientError as error:
            return error

    return told
