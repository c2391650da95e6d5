"""A client of the service: pictures in, answers or one-line errors out."""

from types import TracebackType

import httpx
from pydantic import ValidationError

from service.errors import ProblemAnswer
from service.schemas import DetectAnswer, DetectParameters


class ClientError(Exception):
    """The service did not answer with a result; the message says why in one line."""


class Client:
    """One connection to a service, for a `with` statement; `timeout_s` bounds each picture."""

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=timeout_s)

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
        query = parameters.model_dump(exclude_none=True)
        headers = {"Content-Type": "application/octet-stream"}
        try:
            response = self._http.post("/detect", content=picture, params=query, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ClientError(f"{self.url}: {error}") from error
        if response.is_error:
            raise ClientError(_reason(response))
        try:
            return DetectAnswer.model_validate_json(response.content)
        except ValidationError as error:
            raise ClientError(f"{self.url}: not an answer of this service's version") from error


def _reason(response: httpx.Response) -> str:
    try:
        problem = ProblemAnswer.model_validate_json(response.content)
    except ValidationError:
        return f"HTTP {response.status_code} {response.reason_phrase}"
    return f"{problem.title} ({problem.status}): {problem.detail}"
