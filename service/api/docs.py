"""The page `/docs`: Swagger UI with files from an installed package, so that it asks no other host."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse

PAGE = "/docs"
SCRIPT, STYLE, ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"
PATHS = (PAGE, *(f"{PAGE}/{name}" for name in (SCRIPT, STYLE, ICON)))
SAME_HOST = {"Content-Security-Policy": "default-src 'self' 'unsafe-inline' data:"}
KEPT = {"Cache-Control": "public, max-age=86400"}  # 1.7 MB that change with the package only

router = APIRouter(include_in_schema=False)


@router.get(PAGE)
async def page(request: Request) -> Response:
    """Swagger UI. Addresses are relative, so that they are right behind any prefix."""
    html = get_swagger_ui_html(
        title=request.app.title,
        openapi_url="openapi.json",
        swagger_js_url=f"docs/{SCRIPT}",
        swagger_css_url=f"docs/{STYLE}",
        swagger_favicon_url=f"docs/{ICON}",
        swagger_ui_parameters={"validatorUrl": None},  # else the description is sent to a checker
    )
    html.headers.update(SAME_HOST)
    return html


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    path = Path(str(files("fastapi_offline"))) / "static" / name

    async def send(_: Request) -> Response:
        return FileResponse(path, headers=KEPT)

    return send


for _name in (SCRIPT, STYLE, ICON):
    router.add_route(f"{PAGE}/{_name}", _file(_name))
