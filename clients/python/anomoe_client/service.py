"""What both clients know of their service: its address, what a request is, what an answer means."""

import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from anomoe_client.answers import Problem
from anomoe_client.errors import ClientError, PictureError, ProblemError, UnreachableError
from anomoe_client.proxy import proxy_for
from anomoe_client.reading import ReadError, read_json
from anomoe_client.retry import Attempts, Patience, seconds_of

Answer = TypeVar("Answer")
Transport = TypeVar("Transport")
Picture = bytes | str | PathLike[str]
"""An encoded picture, or the path of its file."""

KEY = re.compile(r"[!-~]+")
HINTS = ("Retry-After", "Location")  # headers of a refusal that say what to do
MOST_PORT = 65535
CONTENT = {"Content-Type": "application/octet-stream"}


class Service:
    """One service and how to talk to it; raises ClientError when the address or the key is none."""

    def __init__(self, url: str, key: str | None, patience: Patience) -> None:
        self.address = _address(url)
        self.patience = patience
        self._where = _without_password(url)
        if key is not None and not KEY.fullmatch(key):
            raise ClientError("the key is empty, or has other characters than visible ones of ASCII")
        self.headers = {} if key is None else {"X-API-Key": key}
        self._has_answered = False

    def transport(self, kind: Callable[..., Transport]) -> Transport:
        """The way there, by the proxy of the environment. Raises: ClientError when it cannot be used."""
        proxy = proxy_for(self.address)
        if proxy is not None:
            self._where += f" by the proxy {_without_password(proxy)}"
        try:
            by = None if proxy is None else _parsed(proxy)
            return kind(proxy=by, limits=httpx2.Limits(max_connections=None))
        except (httpx2.InvalidURL, ValueError, ImportError, OSError) as error:
            raise ClientError(f"{self._where}: {error}") from error

    def request(self, picture: bytes, parameters: Mapping[str, object], attempts: Attempts) -> dict[str, Any]:
        """What a client posts: body, query, headers, and how long it waits for anything."""
        query = {name: value for name, value in parameters.items() if value is not None}
        left_s = attempts.left_s()
        if left_s is None:
            return {"content": picture, "params": query, "headers": CONTENT}
        headers = {**CONTENT, "X-Deadline-Ms": f"{left_s * 1000:.3f}"}
        timeout_s = min(left_s, self.patience.timeout_s)
        return {"content": picture, "params": query, "headers": headers, "timeout": timeout_s}

    @contextmanager
    def failures(self) -> Generator[None, None, None]:
        """Raises: ClientError for whatever keeps an answer from coming.

        An address where nothing listens is asked again only where a service has answered before.
        """
        try:
            yield
        except httpx2.TimeoutException as error:
            reason = f"{self._where}: no answer within {self.patience.timeout_s:g} s"
            if self.patience.deadline_s is not None:
                reason += f", the deadline is {self.patience.deadline_s:g} s"
            raise UnreachableError(reason, is_transient=False) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            lost = isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)
            is_transient = lost and (self._has_answered or not isinstance(error, httpx2.ConnectError))
            reason = f"{self._where}: {str(error) or type(error).__name__}"
            raise UnreachableError(reason, is_transient=is_transient) from error

    def answer(self, response: httpx2.Response, wanted: type[Answer]) -> Answer:
        """Raises: ProblemError for a refusal, ClientError for what is no answer of the service."""
        self._has_answered = True
        if not response.is_success:
            raise self._problem(response)
        try:
            return read_json(wanted, response.content)
        except ReadError as error:
            raise ClientError(f"{self._where}: not an answer of this service's version: {error}") from error

    def _problem(self, response: httpx2.Response) -> ProblemError:
        status, phrase = response.status_code, response.reason_phrase
        try:
            problem = read_json(Problem, response.content)
            reason = f"{problem.title} ({problem.status}): {problem.detail}"
            kind, title, detail, request_id = problem.type, problem.title, problem.detail, problem.request_id
        except ReadError:
            reason = f"{self._where}: HTTP {status} {phrase}"
            kind, title, detail, request_id = "about:blank", phrase, "", response.headers.get("X-Request-ID")
        told = [f"{name}: {response.headers[name]}" for name in HINTS if name in response.headers]
        return ProblemError(
            "; ".join([reason, *told]),
            status=status,
            type=kind,
            title=title,
            detail=detail,
            request_id=request_id,
            retry_after_s=seconds_of(response.headers.get("Retry-After", "")),
        )


def bytes_of(picture: Picture) -> bytes:
    """The encoded picture. Raises: PictureError when its file cannot be read."""
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}") from error


def _address(url: str) -> httpx2.URL:
    """Raises: ClientError unless it is one of a service, with or without a path before the service's own."""
    try:
        address = _parsed(url)
        is_one = address.scheme in ("http", "https") and address.host != ""
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise ClientError(f"{_without_password(url)}: {error}") from error
    if not is_one or address.query or address.fragment:
        raise ClientError(f"{_without_password(url)}: an address like http://HOST:PORT is expected")
    return address


def _parsed(url: str) -> httpx2.URL:
    """Raises: InvalidURL, also for a port that none can be."""
    parsed = httpx2.URL(url)
    if not 0 <= (parsed.port or 0) <= MOST_PORT:
        raise httpx2.InvalidURL(f"Invalid port: {parsed.port}")
    return parsed


def _without_password(url: str) -> str:
    return re.sub("//.*@", "//", url)
