"""Which path asks for which key, decided before anything else of a request is looked at."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service import docs
from service.errors import Kind, Problem
from service.security import KeyRing

# Probes must work without a secret; the description of the API tells nothing of a user's.
OPEN = frozenset({"/healthz", "/readyz"})
DESCRIPTION = frozenset({"/openapi.json", *docs.PATHS})
ADMIN = frozenset({"/models/reload"})
CHALLENGE = 'Bearer realm="anomoe"'


def open_paths(metrics_need_key: bool) -> frozenset[str]:
    """The paths that ask for no key."""
    return OPEN | DESCRIPTION if metrics_need_key else OPEN | DESCRIPTION | {"/metrics"}


class Authentication:
    """Asks for a key where one is needed; the state of the request gets `key_name`.

    Without a key ring everything is open but the paths for admins, which nobody may then use.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing | None, metrics_need_key: bool) -> None:
        self.app = app
        self.keys = keys
        self.open = open_paths(metrics_need_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection.

        Raises: Problem (401 no or wrong key, 403 a key that may not do this).
        """
        if scope["type"] == "http" and scope["path"] not in self.open:
            scope["state"]["key_name"] = key_name(scope, self.keys)
        await self.app(scope, receive, send)


def key_name(scope: Scope, keys: KeyRing | None) -> str | None:
    """The name of the key that a request carries; None where none is needed.

    Raises: Problem (401 no or wrong key, 403 a key that may not do this).
    """
    is_for_admins = scope["path"] in ADMIN and scope["method"] == "POST"
    if keys is None:
        if is_for_admins:
            detail = f"{scope['path']} needs an admin key, and api_keys_file is not set"
            raise Problem(Kind.FORBIDDEN, detail, {"WWW-Authenticate": CHALLENGE})
        return None
    given = _given(Headers(scope=scope))
    if not given:
        detail = "a key is expected, as Authorization: Bearer KEY or X-API-Key: KEY"
        raise Problem(Kind.UNAUTHORISED, detail, {"WWW-Authenticate": CHALLENGE})
    entry, *others = (keys.find(key) for key in given)
    if entry is None or None in others:
        headers = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
        raise Problem(Kind.UNAUTHORISED, "the key is not one of this service", headers)
    if is_for_admins and entry.role != "admin":
        headers = {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope"'}
        raise Problem(Kind.FORBIDDEN, f"{entry.name} is no admin key", headers)
    return entry.name


def _given(headers: Headers) -> list[str]:
    """Every key that a request carries, each of which must be right; "" for an Authorization without one."""
    authorizations = (value.partition(" ") for value in headers.getlist("authorization"))
    tokens = [token.strip() if scheme.lower() == "bearer" else "" for scheme, _, token in authorizations]
    return tokens + headers.getlist("x-api-key")
