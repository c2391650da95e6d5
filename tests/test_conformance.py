"""The list of what the papers hold says where everything lies, and argues whatever is not as written."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "conformance.md"
ROWS = re.findall(
    r"^\| ([A-H]\d+) \| (.*?) \| ([a-z ]+) \| (.*?) \| (.*?) ?\|$", PAGE.read_text(), re.MULTILINE
)
VERDICTS = {"faithful", "argued", "left out"}


def test_every_element_has_a_verdict() -> None:
    assert len({number for number, *_ in ROWS}) == len(ROWS) == 174
    assert {verdict for _, _, verdict, _, _ in ROWS} <= VERDICTS
    counts = ", ".join(
        f"{sum(row[2] == one for row in ROWS)} {one}" for one in ("faithful", "argued", "left out")
    )
    assert f"{len(ROWS)} elements: {counts}" in PAGE.read_text()


@pytest.mark.parametrize("row", ROWS, ids=[number for number, *_ in ROWS])
def test_it_lies_where_the_list_says_or_is_argued(row: tuple[str, ...]) -> None:
    _, _, verdict, where, note = row
    assert note or verdict == "faithful"
    for path in re.findall(r"`([^`]+)`", where):
        assert (ROOT / "training" / path).exists() or (ROOT / path).exists(), path
    for page in re.findall(r"\]\(([^)]+)\)", note):
        assert (PAGE.parent / page).exists(), page
