"""Which path asks for which key, decided before anything else of a request is looked at."""

from collections.abc import Container, Iterable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api_keys import ApiKey, KeyRing
from service.errors import Kind, Problem, shown

# Probes must work without a secret; the description of the API tells nothing of a user's.
OPEN = frozenset({"/healthz", "/readyz", "/openapi.json"})
CHALLENGE = 'Bearer realm="anomoe"'


def open_paths(metrics_need_key: bool, pages: Iterable[str]) -> frozenset[str]:
    """The paths that ask for no key. pages: those that show the description."""
    return OPEN.union(pages) if metrics_need_key else OPEN.union(pages, {"/metrics"})


class Authentication:
    """Asks for a key on every path that is not open; the state of the request gets `key`, or None without it.

    Without a key ring everything is open but what `needs_admin`, which nobody may then use.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing | None, open_to_all: Container[str]) -> None:
        self.app = app
        self.keys = keys
        self.open = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection.

        Raises: Problem (401 no or wrong key).
        """
        if scope["type"] == "http":
            key = None
            if self.keys is not None and scope["path"] not in self.open:
                key = _key(Headers(scope=scope), self.keys)
            scope["state"]["key"] = key
        await self.app(scope, receive, send)


async def needs_admin(request: Request) -> None:
    """For routes as a dependency. Raises: Problem (403) without the key of an admin."""
    key: ApiKey | None = request.state.key
    if key is None:
        detail = f"{shown(request.url.path)} needs an admin key, and api_keys_file is not set"
        raise Problem(Kind.FORBIDDEN, detail, {"WWW-Authenticate": CHALLENGE})
    if key.role != "admin":
        headers = {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope"'}
        raise Problem(Kind.FORBIDDEN, f"{key.name} is no admin key", headers)


def _key(headers: Headers, keys: KeyRing) -> ApiKey:
    """The key that a request carries. Raises: Problem (401 no or wrong key)."""
    given = _given(headers)
    if not given:
        detail = "a key is expected, as Authorization: Bearer KEY or X-API-Key: KEY"
        raise Problem(Kind.UNAUTHORISED, detail, {"WWW-Authenticate": CHALLENGE})
    entry, *others = (keys.find(key) for key in given)
    if entry is None or None in others:
        challenge = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
        raise Problem(Kind.UNAUTHORISED, "the key is not one of this service", challenge)
    return entry


def _given(headers: Headers) -> list[str]:
    """Every key that a request carries, each of which must be right; "" for an Authorization without one."""
    authorizations = (value.partition(" ") for value in headers.getlist("authorization"))
    tokens = [token.strip() if scheme.lower() == "bearer" else "" for scheme, _, token in authorizations]
    return tokens + headers.getlist("x-api-key")
