"""Which path asks for which key, decided before anything else of a request is looked at."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Kind, Problem
from service.security import KeyRing

# Probes must work without a secret; the page and the description of the API tell nothing of a user's.
OPEN = frozenset({"/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
DESCRIPTION = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
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
            scope["state"]["key_name"] = self._key_name(scope)
        await self.app(scope, receive, send)

    def _key_name(self, scope: Scope) -> str | None:
        is_for_admins = scope["path"] in ADMIN
        if self.keys is None:
            if is_for_admins:
                detail = f"{scope['path']} needs an admin key, and api_keys_file is not set"
                raise Problem(Kind.FORBIDDEN, detail, {"WWW-Authenticate": CHALLENGE})
            return None
        key = _given(Headers(scope=scope))
        if key is None:
            detail = "a key is expected, as Authorization: Bearer KEY or X-API-Key: KEY"
            raise Problem(Kind.UNAUTHORISED, detail, {"WWW-Authenticate": CHALLENGE})
        entry = self.keys.find(key)
        if entry is None:
            headers = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
            raise Problem(Kind.UNAUTHORISED, "the key is not one of this service", headers)
        if is_for_admins and entry.role != "admin":
            headers = {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope"'}
            raise Problem(Kind.FORBIDDEN, f"{entry.name} is no admin key", headers)
        return entry.name


def _given(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key")
