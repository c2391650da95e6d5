"""A real browser with the page in it; playwright, which not everybody has, is imported when it is needed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.service.conftest import listening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from tests.service.page.browsing import launched  # noqa: PLC0415

    yield from launched()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The bundles that come with the repository."""
    with listening(ROOT / "bundles") as address:
        yield address


@pytest.fixture
def page(browser: "Browser", url: str) -> "Iterator[Page]":
    from tests.service.page.browsing import opened  # noqa: PLC0415

    yield from opened(browser, url)
