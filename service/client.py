"""A client of the service: pictures in, answers or one-line errors out."""

from types import TracebackType
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.errors import ProblemAnswer
from service.schemas import DetectAnswer, DetectParameters
from service.zero_shot.schemas import ZeroShotAnswer, ZeroShotParameters

Answer = TypeVar("Answer", bound=BaseModel)


class ClientError(Exception):
    """The service did not answer with a result; the message says why in one line."""


class Client:
    """One connection to a service, for a `with` statement; `timeout_s` bounds each picture.

    Raises: ClientError when the address is none.
    """

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        self.url = url
        try:
            self._http = httpx.Client(base_url=url, timeout=timeout_s)
        except httpx.InvalidURL as error:
            raise ClientError(f"{url}: {error}") from error

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
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ClientError(f"{self.url}: {error}") from error
        if response.is_error:
            raise ClientError(_reason(response))
        try:
            return wanted.model_validate_json(response.content)
        except ValidationError as error:
            raise ClientError(f"{self.url}: not an answer of this service's version") from error


def _reason(response: httpx.Response) -> str:
    try:
        problem = ProblemAnswer.model_validate_json(response.content)
    except ValidationError:
        return f"HTTP {response.status_code} {response.reason_phrase}"
    return f"{problem.title} ({problem.status}): {problem.detail}"
