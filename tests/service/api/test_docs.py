"""The page `/docs` is whole without any other host."""

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

from starlette.testclient import TestClient


class _Addresses(HTMLParser):
    """What a page has a browser fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = re.findall(r"url: '([^']*)'", page)  # the description, by Swagger UI
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


def test_whatever_the_page_fetches_comes_from_the_service(service: TestClient) -> None:
    response = service.get("/docs")
    assert response.headers["content-security-policy"].startswith("default-src 'self' ")
    addresses = _Addresses(response.text).found
    assert len(addresses) == 4
    for address in addresses:
        assert "//" not in address
        fetched = service.get(urljoin("/docs", address))
        assert fetched.status_code == 200, address
        assert fetched.content
    assert '"validatorUrl": null' in response.text


def test_files_have_their_types_and_are_kept(service: TestClient) -> None:
    for name, kind in (("swagger-ui-bundle.js", "javascript"), ("swagger-ui.css", "text/css")):
        headers = service.get(f"/docs/{name}").headers
        assert kind in headers["content-type"]
        assert headers["cache-control"] == "public, max-age=86400"
        assert headers["x-content-type-options"] == "nosniff"


def test_there_is_no_page_that_needs_another_host(service: TestClient) -> None:
    assert service.get("/redoc").status_code == 404
