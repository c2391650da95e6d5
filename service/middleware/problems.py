"""Problems as HTTP answers, and the framework's errors as problems."""

from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.errors import Kind, Problem, no_such_path, shown


def from_http_exception(error: HTTPException, request: Request) -> Problem:
    """An error of the framework or a dependency as the problem of its status, as far as there is one."""
    if error.status_code == 404 and "endpoint" not in request.scope:
        return no_such_path(request.scope["path"])
    if error.status_code == 405:
        detail = f"{request.method} is not allowed on {shown(request.url.path)}"
    else:
        detail = error.detail
    other = Kind.MALFORMED if error.status_code < 500 else Kind.INTERNAL
    kind = next((kind for kind in Kind if kind.status == error.status_code), other)
    return Problem(kind, detail, dict(error.headers or {}))
