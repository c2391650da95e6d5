"""The client for programs with threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from time import sleep
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import httpx2

from anomoe_client.answers import Detection, ZeroShotDetection
from anomoe_client.errors import ClientError
from anomoe_client.in_order import in_order
from anomoe_client.parameters import DetectParameters, ZeroShotParameters
from anomoe_client.retry import Attempts, Patience
from anomoe_client.service import Answer, Picture, Service, bytes_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

Result = TypeVar("Result")


class Client:
    """Connections to a service, for a `with` statement; threads may share it.

    timeout_s bounds each wait for the service. What is refused with 429, 502 or 503, or loses its connection,
    is asked again for `retry_s`, after the service's `Retry-After`. After `deadline_s` an answer is no use:
    the service is told, and nothing is asked again. Proxies are those of the environment, see `proxy_for`.
    Raises: ClientError when the address, the key or the proxy is none.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry_s: float = 60.0,
        deadline_s: float | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._service = Service(url, key, Patience(timeout_s, retry_s, deadline_s))
        self._http = httpx2.Client(
            base_url=self._service.address,
            headers=self._service.headers,
            timeout=timeout_s,
            transport=transport or self._service.transport(httpx2.HTTPTransport),
        )

    def __enter__(self) -> Client:
        """Use the connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._http.close()

    def detect(self, picture: Picture, **parameters: Unpack[DetectParameters]) -> Detection:
        """The verdict on one picture. Raises: ClientError when there is none."""
        return self._ask("/detect", picture, parameters, Detection)

    def zero_shot(self, picture: Picture, **parameters: Unpack[ZeroShotParameters]) -> ZeroShotDetection:
        """The verdict on one picture with each class name. Raises: ClientError when there is none."""
        return self._ask("/zero-shot", picture, parameters, ZeroShotDetection)

    def detect_many(
        self, pictures: Iterable[Picture], *, at_once: int = 8, **parameters: Unpack[DetectParameters]
    ) -> Iterator[Detection | ClientError]:
        """An answer or an error for each picture, in order; `at_once` pictures are under way at most."""
        return in_order(_told(partial(self.detect, **parameters)), pictures, at_once)

    def zero_shot_many(
        self, pictures: Iterable[Picture], *, at_once: int = 8, **parameters: Unpack[ZeroShotParameters]
    ) -> Iterator[ZeroShotDetection | ClientError]:
        """As `detect_many`, with class names."""
        return in_order(_told(partial(self.zero_shot, **parameters)), pictures, at_once)

    def _ask(
        self, path: str, picture: Picture, parameters: Mapping[str, object], wanted: type[Answer]
    ) -> Answer:
        data, attempts = bytes_of(picture), Attempts(self._service.patience)
        while True:
            try:
                with self._service.failures():
                    response = self._http.post(path, **self._service.request(data, parameters, attempts))
                return self._service.answer(response, wanted)
            except ClientError as error:
                sleep(attempts.pause_s(error))


def _told(ask: Callable[[Picture], Result]) -> Callable[[Picture], Result | ClientError]:
    def told(picture: Picture) -> Result | ClientError:
        try:
            return ask(picture)
        except ClientError as error:
            return error

    return told
