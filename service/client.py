"""A client of the service: pictures in, answers or one-line errors out."""

import re
from types import TracebackType
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.errors import ProblemAnswer
from service.proxy import proxy_for
from service.schemas.detect import DetectAnswer, DetectParameters
from service.schemas.zero_shot import ZeroShotAnswer, ZeroShotParameters

Answer = TypeVar("Answer", bound=BaseModel)

KEY = re.compile(r"[!-~]+")
HINTS = ("Retry-After", "Location")  # headers of a refusal that say what to do


class ClientError(Exception):
    """The service did not answer with a result; the message says why in one line."""


class Client:
    """One connection to a service, for a `with` statement; `timeout_s` bounds each wait for it.

    Proxies are those of the environment, see `proxy_for`. Raises: ClientError when the address, the key or
    the proxy is none.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0) -> None:
        address = _address(url)
        self._where, self._timeout_s = _without_password(url), timeout_s
        if key is not None and not KEY.fullmatch(key):
            raise ClientError("the key is empty, or has other characters than visible ones of ASCII")
        proxy = proxy_for(address)
        if proxy is not None:
            self._where += f" by the proxy {_without_password(proxy)}"
        try:
            transport = httpx.HTTPTransport(proxy=proxy)
        except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
            raise ClientError(f"{self._where}: {error}") from error
        headers = {} if key is None else {"X-API-Key": key}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout_s, transport=transport)

    def __enter__(self) -> "Client":
        """Use the connection."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._http.close()

    def detect(self, picture: bytes, parameters: DetectParameters) -> DetectAnswer:
        """The verdict on one encoded picture.

        Raises: ClientError when the service cannot be reached or answers with a problem.
        """
        return self._ask("/detect", picture, parameters, DetectAnswer)

    def zero_shot(self, picture: bytes, parameters: ZeroShotParameters) -> ZeroShotAnswer:
        """The verdict on one encoded picture with each class name.

        Raises: ClientError when the service cannot be reached or answers with a problem.
        """
        return self._ask("/zero-shot", picture, parameters, ZeroShotAnswer)

    def _ask(self, path: str, picture: bytes, parameters: BaseModel, wanted: type[Answer]) -> Answer:
        query = parameters.model_dump(exclude_none=True)
        headers = {"Content-Type": "application/octet-stream"}
        try:
            response = self._http.post(path, content=picture, params=query, headers=headers)
        except httpx.TimeoutException as error:
            raise ClientError(f"{self._where}: no answer within {self._timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise ClientError(f"{self._where}: {str(error) or type(error).__name__}") from error
        if not response.is_success:
            raise ClientError(self._reason(response))
        try:
            return wanted.model_validate_json(response.content)
        except ValidationError as error:
            raise ClientError(f"{self._where}: not an answer of this service's version") from error

    def _reason(self, response: httpx.Response) -> str:
        try:
            problem = ProblemAnswer.model_validate_json(response.content)
            reason = f"{problem.title} ({problem.status}): {problem.detail}"
        except ValidationError:
            reason = f"{self._where}: HTTP {response.status_code} {response.reason_phrase}"
        told = [f"{name}: {response.headers[name]}" for name in HINTS if name in response.headers]
        return "; ".join([reason, *told])


def _address(url: str) -> httpx.URL:
    """Raises: ClientError unless it is one of a service, with or without a path before the service's own."""
    try:
        address = httpx.URL(url)
        is_one = address.scheme in ("http", "https") and address.host != ""
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ClientError(f"{_without_password(url)}: {error}") from error
    if not is_one or address.query or address.fragment:
        raise ClientError(f"{_without_password(url)}: an address like http://HOST:PORT is expected")
    return address


def _without_password(url: str) -> str:
    return re.sub("//.*@", "//", url)
