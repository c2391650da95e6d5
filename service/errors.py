"""Every error the service answers with: one table, one exception, one body (RFC 9457)."""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel

MEDIA_TYPE = "application/problem+json"
SHOWN_CHARACTERS = 100
SHOWN_COMPLAINTS = 10


class Kind(Enum):
    """What went wrong: HTTP status and title; the name gives the `type` of the answer."""

    MALFORMED = (400, "The request is malformed")
    UNAUTHORISED = (401, "No key, or a wrong one")
    FORBIDDEN = (403, "The key may not do this")
    NOT_FOUND = (404, "There is nothing at this path")
    UNKNOWN_CATEGORY = (404, "No such category")
    UNKNOWN_MODEL = (404, "No such model")
    METHOD_NOT_ALLOWED = (405, "The path does not take this method")
    TOO_SLOW = (408, "The body came too slowly")
    TOO_LARGE = (413, "Too many bytes or pixels")
    NOT_A_PICTURE = (415, "Not a picture type")
    INVALID_PARAMETER = (422, "A parameter is wrong")
    UNDECODABLE_PICTURE = (422, "The picture cannot be decoded")
    BAD_BUNDLE = (422, "A bundle cannot be served")
    BUSY = (429, "The service is full")
    INTERNAL = (500, "The service failed")
    UNAVAILABLE = (503, "The service is not ready")
    DEADLINE = (504, "The deadline cannot be met")

    @property
    def status(self) -> int:
        """HTTP status code."""
        return self.value[0]

    @property
    def title(self) -> str:
        """Short text, the same for every occurrence."""
        return self.value[1]

    @property
    def slug(self) -> str:
        """Name in answers and metrics, like `unknown-category`."""
        return self.name.lower().replace("_", "-")


REJECTIONS = frozenset(
    {
        Kind.UNAUTHORISED,
        Kind.FORBIDDEN,
        Kind.TOO_SLOW,
        Kind.TOO_LARGE,
        Kind.BUSY,
        Kind.UNAVAILABLE,
        Kind.DEADLINE,
    }
)
"""Refusals to protect the service, counted in `rejected_total`."""


class Problem(Exception):  # noqa: N818 (RFC 9457's own word)
    """An error that the caller is told about; `headers` go onto the answer.

    stage: before which a deadline passed, for the metrics.
    """

    def __init__(
        self, kind: Kind, detail: str, headers: dict[str, str] | None = None, stage: str = ""
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers or {}
        self.stage = stage


class ProblemAnswer(BaseModel):
    """Body of an error answer."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


def unexpected(error: Exception) -> Problem:
    """What the caller is told of an error that nobody foresaw; the log has more."""
    return Problem(Kind.INTERNAL, f"unexpected {type(error).__name__}, see the log of the service")


def shown(text: str) -> str:
    """What a caller wrote, for an error message: shortened, with what does not print escaped."""
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")


def problem_answer(problem: Problem, request_id: str) -> ProblemAnswer:
    """The body for a problem."""
    return ProblemAnswer(
        type=f"urn:anomoe:{problem.kind.slug}",
        title=problem.kind.title,
        status=problem.kind.status,
        detail=problem.detail,
        request_id=request_id,
    )


def wrong_parameters(errors: Sequence[Any]) -> Problem:
    """What pydantic or the framework found wrong: the first fields and their values."""
    complaints = (_complaint(one["loc"], one["msg"], one["input"]) for one in errors[:SHOWN_COMPLAINTS])
    return Problem(Kind.INVALID_PARAMETER, "; ".join(complaints))


def _complaint(location: Iterable[int | str], message: str, value: object) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    field = place.removeprefix(".")[:SHOWN_CHARACTERS]
    return f"{field}: {message[0].lower()}{message[1:]}, got {repr(value)[:SHOWN_CHARACTERS]}"


def no_such_path(path: str) -> Problem:
    """The problem of a path that no route takes."""
    return Problem(Kind.NOT_FOUND, f"no such path: {shown(path)}")
