"""The inspector: one page of package data with its style and script inside, so that it asks no other host."""

from base64 import b64encode
from functools import lru_cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.responses import FileResponse

from service.errors import no_such_path
from service.middleware.admission import runtime_of

PAGE, GALLERY = "/", "/gallery/{name}"
SCRIPTS = ("judge", "api", "draw", "view", "batch", "camera", "main")  # of one scope, in this order
FOLDER = files("service") / "page"
PICTURES = tuple(sorted(one.name for one in (FOLDER / "gallery").iterdir()))
PATHS = (PAGE, *(GALLERY.format(name=name) for name in PICTURES))

router = APIRouter(include_in_schema=False)


class Page(NamedTuple):
    """The document and the policy that lets it run nothing else."""

    html: str
    headers: dict[str, str]


@router.get(PAGE)
async def page(request: Request) -> HTMLResponse:
    """The inspector; behind a prefix its addresses begin with that."""
    settings = runtime_of(request.app).settings
    document = assembled(settings.root_path.rstrip("/"), settings.feedback_dir is not None)
    return HTMLResponse(document.html, headers=document.headers)


@router.get(GALLERY)
async def picture(name: str) -> FileResponse:
    """A picture of the demo. Raises: Problem (404)."""
    if name not in PICTURES:
        raise no_such_path(GALLERY.format(name=name))
    return FileResponse(str(FOLDER / "gallery" / name), headers={"Cache-Control": "public, max-age=86400"})


@lru_cache(maxsize=4)
def assembled(prefix: str, keeps_feedback: bool) -> Page:
    """The page, read when it is first asked for. Style and script are allowed by their hashes."""
    style = _text("inspector.css")
    script = "".join(_text(f"{name}.js") for name in SCRIPTS)
    base = f'<base href="{escape(prefix)}/">' if prefix else ""
    html = (
        _text("inspector.html")
        .replace("<!-- base -->", base)
        .replace("<!-- style -->", f"<style>{style}</style>")
        .replace("<!-- script -->", f'<script type="module">{script}</script>')
        .replace('data-feedback="off"', f'data-feedback="{"on" if keeps_feedback else "off"}"')
    )
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'self'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return Page(html, {"Content-Security-Policy": policy, "Permissions-Policy": "camera=(self)"})


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a source of a Content-Security-Policy (CSP level 2, section 4.2.5)."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
