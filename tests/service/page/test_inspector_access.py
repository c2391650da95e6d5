"""The inspector with the keyboard alone, on a narrow screen, in both themes, and with a key."""

import re
from pathlib import Path

import pytest

from service.api_keys import add_key, make_key
from tests.service.conftest import encoded, listening, picture
from tests.service.page.browsing import (
    IN_BROWSER,
    Browser,
    Page,
    Scheme,
    assert_accessible,
    assert_fits,
    choose,
    demo,
    expect,
    opened,
    settled,
)
from training.demo.factory.render import render

pytestmark = IN_BROWSER


def tab_to(page: Page, selector: str) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.locator(f"{selector}:focus").count():
            return
    raise AssertionError(f"the keyboard does not reach {selector}")


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    expect(page.locator("#gallery button")).not_to_have_count(0)
    for _ in range(2):
        tab_to(page, "#gallery li:nth-child(2) button")
        page.keyboard.press("Enter")
        expect(page.locator("#verdict-word")).to_have_text("NORMAL")
        settled(page)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#strip li:first-child button")).to_have_attribute("aria-current", "true")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#strip li:last-child button")).to_have_attribute("aria-current", "true")
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Map", exact=True)).to_have_attribute("aria-pressed", "false")
    tab_to(page, "#alpha")
    before = page.locator("#alpha-text").inner_text()
    page.keyboard.press("End")
    expect(page.locator("#alpha-text")).not_to_have_text(before)
    expect(page.locator("#alpha")).to_have_attribute("aria-valuetext", "50 %")
    page.keyboard.press("Home")
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "#key-open")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_everything(browser: Browser, url: str, scheme: Scheme) -> None:
    for page in opened(browser, url, width=360, scheme=scheme):
        expect(page.locator("#gallery button")).not_to_have_count(0)
        assert_fits(page)
        demo(page, "board, extra part")
        assert_fits(page)
        parts = (page.locator(f"#{name}").bounding_box() for name in ("stage", "verdict", "gallery-part"))
        tops = [part["y"] for part in parts if part]
        assert len(tops) == 3
        assert tops == sorted(tops)
        names = [f"a{'long' * 12} name {seed}.png" for seed in (1, 2)]
        choose(page, *[(name, encoded(render("board", 1)[0])) for name in names])
        expect(page.locator("#batch-save")).to_be_visible()
        assert_fits(page)
        assert_accessible(page)


def test_the_theme_is_remembered(page: Page) -> None:
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 21)"


def test_a_key_is_asked_for_and_judgements_are_kept_behind_a_prefix(
    browser: Browser, bundle_folder: Path, tmp_path: Path
) -> None:
    key, entry = make_key("inspector", "infer")
    add_key(tmp_path / "keys", entry)
    guarded = {"api_keys_file": tmp_path / "keys", "root_path": "/line", "feedback_dir": tmp_path / "kept"}
    with listening(bundle_folder, **guarded) as url:
        for page in opened(browser, f"{url}/line"):
            dialog = page.get_by_role("dialog", name="API key")
            expect(dialog).to_contain_text("The service asks for a key.")
            expect(page.locator("#state")).to_have_text("key needed")
            page.get_by_label("Key", exact=True).last.fill("anomoe_wrong")
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_contain_text("the key is not one of this service")
            page.get_by_label("Key", exact=True).last.fill(key)
            dialog.get_by_role("button", name="Use").click()
            expect(page.locator("#state")).to_have_text(re.compile("^tiny"))
            expect(page.get_by_role("alert")).to_be_hidden()
            choose(page, ("one.png", encoded(picture("brick", spotted=True))))
            expect(page.locator("#verdict-word")).to_have_text("ANOMALY")
            page.get_by_role("button", name="NG", exact=True).click()
            expect(page.locator("#judgement-state")).to_have_text("kept as NG")
            page.get_by_role("button", name="OK", exact=True).click()
            expect(page.locator("#judgement-state")).to_have_text("kept as OK")
    kept = sorted(path.relative_to(tmp_path / "kept") for path in (tmp_path / "kept").rglob("*.*"))
    assert [path.parent.as_posix() for path in kept] == ["brick/train/good"] * 2
    assert [path.suffix for path in kept] == [".json", ".png"]
