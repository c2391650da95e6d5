"""What the inspector shows of a judgement: verdict, map, regions, scores, reasons, errors."""

from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import encoded
from tests.service.page.browsing import (
    IN_BROWSER,
    Page,
    Route,
    assert_accessible,
    choose,
    demo,
    expect,
    settled,
    word,
)
from training.demo.factory.render import render

pytestmark = IN_BROWSER

ROOT = Path(__file__).parents[3]


def test_the_first_click_shows_a_defect(page: Page) -> None:
    page.get_by_role("button", name="Show me a defect").click()
    expect(page.locator("#verdict-word")).to_have_text("ANOMALY")
    settled(page)
    expect(page.get_by_role("img", name="board-logical_extra-3.jpg")).to_be_visible()
    assert page.locator("#boxes rect").count() == page.locator("#regions button").count() > 0
    # The map is drawn: some of its pixels are red and hardly transparent.
    reddest = page.evaluate(
        "(() => { const map = document.getElementById('map');"
        "const pixels = map.getContext('2d').getImageData(0, 0, map.width, map.height).data; let most = 0;"
        "for (let at = 0; at < pixels.length; at += 4)"
        "  if (pixels[at] > 200 && pixels[at + 1] < 120) most = Math.max(most, pixels[at + 3]);"
        "return most; })()"
    )
    assert reddest > 150
    for name in ("patch", "component", "global"):
        expect(page.locator("#levels li", has_text=name)).to_contain_text("expert")
    for stage in ("decode", "backbone", "experts", "head"):
        expect(page.locator("#timings")).to_contain_text(stage)
    assert_accessible(page)


def test_the_map_can_be_faded_hidden_and_made_to_blink_and_the_picture_enlarged(page: Page) -> None:
    demo(page, "blister, crack")
    page.locator("#opacity").fill("20")
    assert page.locator("#map").evaluate("map => getComputedStyle(map).opacity") == "0.2"
    page.keyboard.press("b")
    expect(page.get_by_role("button", name="Blink")).to_have_attribute("aria-pressed", "true")
    assert page.locator("#map").evaluate("map => getComputedStyle(map).animationName") == "blink"
    page.get_by_role("button", name="Zoom").click()
    assert page.evaluate("document.getElementById('stage').scrollWidth > 2 * innerWidth * 0.6")
    assert page.evaluate("document.getElementById('stage').scrollLeft") == 0
    page.locator("#regions button").first.click()
    assert page.evaluate("document.getElementById('stage').scrollTop") > 0
    assert_accessible(page)
    page.get_by_role("button", name="Map", exact=True).click()
    expect(page.locator("#map")).to_be_hidden()
    page.get_by_role("button", name="Regions", exact=True).click()
    expect(page.locator("#boxes")).to_be_hidden()


def between(url: str) -> tuple[bytes, float]:
    """A good board whose verdict depends on alpha, and its p-value."""
    for seed in range(100):
        data = encoded(render("board", seed)[0])
        answer = httpx.post(f"{url}/detect?map=none", content=data).json()
        if not answer["is_anomalous"] and 0.03 < answer["p_value"] < 0.4:
            return data, answer["p_value"]
    raise AssertionError("no such picture")


def test_the_slider_judges_as_the_service_does(page: Page, url: str) -> None:
    data, p_value = between(url)
    choose(page, ("own.png", data))
    expect(page.locator("#verdict-word")).to_have_text("NORMAL")
    settled(page)
    words: set[str] = set()
    for place in (1, 20, 50, 70, 85, 100):
        page.locator("#alpha").fill(str(place))
        alpha = 0.001 * 500 ** (place / 100)
        answer = httpx.post(f"{url}/detect?map=none&alpha={alpha:.4g}", content=data).json()
        assert word(page) == ("ANOMALY" if answer["is_anomalous"] else "NORMAL"), (alpha, p_value)
        assert page.locator("#score").inner_text() == f"{answer['score']:.2f}"
        shown = [float(text) for text in page.locator("#levels output").all_inner_texts()]
        assert shown == pytest.approx([one["score"] for one in answer["levels"].values()], abs=0.006)
        words.add(word(page))
    assert words == {"NORMAL", "ANOMALY"}
    choose(page, ("own.png", data))  # is asked with the slider's alpha
    expect(page.locator("#strip button")).to_have_count(2)
    settled(page)
    assert word(page) == "ANOMALY"
    expect(page.get_by_role("button", name="own.png: ANOMALY")).to_have_count(2)
    page.get_by_role("button", name="Back to the default").click()
    expect(page.locator("#verdict-word")).to_have_text("NORMAL")


def test_what_is_not_said_to_be_normal_is_never_shown_as_normal(page: Page, url: str) -> None:
    data = encoded(render("board", 3)[0])
    answer = httpx.post(f"{url}/detect", content=data).json()
    doubted = {**answer, "is_anomalous": False, "reason": None, "verdict": "undecided", "explanation": "Why."}
    region = {**answer, "is_anomalous": True, "reason": "region", "verdict": "anomalous"}
    for told, expected in ((doubted, "UNDECIDED"), (region, "ANOMALY")):
        page.route("**/detect?*", partial(Route.fulfill, json=told))
        choose(page, ("own.png", data))
        expect(page.locator("#verdict-word")).to_have_text(expected)
        settled(page)
        page.locator("#alpha").fill("0")
        assert word(page) == expected
        choose(page, ("one.png", data), ("two.png", data))
        expect(page.locator("#batch-count")).to_have_text("2 of 2: 0 normal, 2 anomalous")
        page.unroute("**/detect?*")


def test_another_product_than_the_named_one_is_said_large(page: Page) -> None:
    page.locator("#product").select_option("board")
    demo(page, "fabric, good")
    expect(page.locator("#verdict-word")).to_have_text("NOT THIS PRODUCT")
    page.locator("#product").select_option("")
    expect(page.locator("#verdict-word")).to_have_text("NORMAL")
    demo(page, "metal gear")
    expect(page.locator("#verdict-word")).to_have_text("UNKNOWN PRODUCT")
    expect(page.locator("#alpha")).to_be_hidden()
    expect(page.locator("#histogram")).to_be_hidden()
    assert_accessible(page)


def test_class_names_are_judged_without_pictures_of_the_product(page: Page) -> None:
    page.get_by_label("Class names", exact=True).first.check(force=True)
    page.get_by_label("Class names", exact=True).last.fill("metal gear, bottle")
    choose(page, ("gear.png", (ROOT / "docs" / "gear.png").read_bytes()))
    expect(page.locator("#verdict-word")).to_have_text("ANOMALY")
    expect(page.locator("#classes li")).to_have_count(2)
    expect(page.locator("#classes li", has_text="fits best")).to_contain_text("metal gear")
    expect(page.locator("#classes-note")).to_contain_text("Not calibrated")
    settled(page)
    assert_accessible(page)


def test_an_error_is_told_with_what_was_wrong(page: Page) -> None:
    demo(page, "board, good")
    expect(page.locator("#verdict-word")).to_have_text("NORMAL")
    choose(page, ("broken.png", b"\x89PNG\r\n\x1a\nand then nothing"))
    expect(page.get_by_role("alert")).to_contain_text("The picture cannot be decoded")
    expect(page.get_by_role("alert")).to_contain_text("status 422, request ")
    expect(page.locator("#verdict")).to_be_hidden()  # which is another picture's
    expect(page.locator("#frame")).to_be_hidden()
    assert_accessible(page)
    page.get_by_label("Class names", exact=True).first.check(force=True)
    page.get_by_label("Class names", exact=True).last.fill(" ")
    choose(page, ("gear.png", (ROOT / "docs" / "gear.png").read_bytes()))
    expect(page.get_by_role("alert")).to_contain_text("No class name")
