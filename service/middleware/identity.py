"""Who asks and until when, as the headers of a request have it."""

import math
import re

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import Kind, Problem
from service.scheduling.caller import Caller

PRINTABLE = re.compile(r"[!-~]{1,128}")  # without spaces; what a caller may call itself or a request
DEADLINE_MS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


def caller_of(scope: Scope, key_name: str | None, started: float, default_ms: int) -> Caller:
    """The caller of a request: its key's name, else its `X-Client-ID`, else its address.

    A key's name goes first, so that nobody gets more than one share by making up client ids.
    Raises: Problem (422) when `X-Deadline-Ms` is not a number of milliseconds.
    """
    headers = Headers(scope=scope)
    client = client_of(scope, key_name, headers.get("x-client-id", ""))
    wanted = headers.get("x-deadline-ms")
    if wanted is not None and not (DEADLINE_MS.fullmatch(wanted) and float(wanted) > 0):
        detail = f"X-Deadline-Ms: milliseconds above 0 are expected, got {wanted[:100]!r}"
        raise Problem(Kind.INVALID_PARAMETER, detail)
    deadline_ms = float(wanted or default_ms) or math.inf
    return Caller(client, started + deadline_ms / 1000)


def client_of(scope: Scope, key_name: str | None, given_id: str) -> str:
    """Whose share a request counts for: see `caller_of`."""
    if key_name:
        return f"key {key_name}"
    address: str = (scope.get("client") or ("",))[0]
    return f"id {given_id}" if PRINTABLE.fullmatch(given_id) else f"address {address}"
