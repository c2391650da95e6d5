"""A tab of a real browser with the page in it, and what tests do there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

from playwright.sync_api import (  # noqa: E402
    Browser,
    ConsoleMessage,
    FilePayload,
    Page,
    Request,
    Route,
    expect,
)

# For the tests, too, which are skipped where these cannot be imported.
__all__ = ["Browser", "Page", "Route", "expect"]

Scheme = Literal["light", "dark"]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
WAIT_MS = 60_000  # longer than any answer takes; a test never waits for it unless it fails
REFUSED = "Failed to load resource"  # what a browser says itself of every answer of status 400 and above

IN_BROWSER = [
    pytest.mark.alone,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}"),
]


def launched() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Browser, url: str, width: int = 1280, scheme: Scheme = "light") -> Iterator[Page]:
    """A tab with the page; afterwards nothing was asked of another host, and nothing failed in it."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    asked: list[str] = []
    wrong: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(REFUSED):
            wrong.append(message.text)

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("console", hear)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", note)
    page.goto(url)
    yield page
    context.close()
    assert wrong == []
    own = "/".join(url.split("/")[:3])
    assert [one for one in asked if not one.startswith((own, "data:", f"blob:{own}"))] == []


def word(page: Page) -> str:
    return page.locator("#verdict-word").inner_text()


def settled(page: Page) -> None:
    """The last picture is judged and drawn, or refused."""
    expect(page.locator("#stage")).not_to_have_attribute("aria-busy", "true")


def choose(page: Page, *files: tuple[str, bytes]) -> None:
    chosen = [FilePayload(name=name, mimeType="image/png", buffer=data) for name, data in files]
    page.set_input_files("#files", chosen)


def demo(page: Page, name: str) -> None:
    pictures = page.locator("#strip button")
    count = pictures.count()
    page.get_by_role("button", name=name, exact=True).click()
    expect(pictures).to_have_count(count + 1)
    settled(page)


def assert_accessible(page: Page) -> None:
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []


def assert_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
