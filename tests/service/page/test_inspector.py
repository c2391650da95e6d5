"""A real browser drives the page: with mouse, keyboard alone, on a narrow screen, for a screen reader."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import httpx
import pytest

from service.api_keys import add_key, make_key
from tests.service.conftest import encoded, listening, picture
from training.demo.factory.render import render

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

from playwright.sync_api import Browser, ConsoleMessage, FilePayload, Page, Request, Route, expect  # noqa: E402

ROOT = Path(__file__).parents[3]
Scheme = Literal["light", "dark"]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
WAIT_MS = 60_000  # longer than any answer takes; a test never waits for it unless it fails
REFUSED = "Failed to load resource"  # what a browser says itself of every answer of status 400 and above

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The bundles that come with the repository."""
    with listening(ROOT / "bundles") as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    yield from opened(browser, url)


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


def test_many_pictures_make_a_table_and_a_file(page: Page, tmp_path: Path) -> None:
    good = [(f"good {seed}.png", encoded(render("board", seed)[0])) for seed in range(5)]
    bad = ("bad, 1.png", encoded(render("board", 3, "logical_extra")[0]))
    choose(page, *good, bad, ("text.png", b"no picture"))
    expect(page.locator("#batch-save")).to_be_visible()
    expect(page.locator("#rows tr")).to_have_count(7)
    assert page.locator("#rows td:first-child").all_inner_texts() == [
        *[one[0] for one in good],
        bad[0],
        "text.png",
    ]
    assert page.locator("#rows td:nth-child(3)").all_inner_texts()[5:] == ["ANOMALY", "ERROR"]
    expect(page.locator("#batch-count")).to_contain_text("7 of 7")
    expect(page.locator("#batch-count")).to_contain_text("1 failed")
    with page.expect_download() as download:
        page.locator("#batch-save").click()
    download.value.save_as(tmp_path / "saved.csv")
    lines = (tmp_path / "saved.csv").read_text().splitlines()
    assert len(lines) == 8
    assert lines[6].startswith('"bad, 1.png",board,ANOMALY,0.')
    page.get_by_role("button", name="bad, 1.png").click()
    expect(page.locator("#verdict-word")).to_have_text("ANOMALY")
    settled(page)
    assert_accessible(page)


def test_a_folder_is_judged_without_hidden_files(page: Page, tmp_path: Path) -> None:
    (tmp_path / "line" / "monday").mkdir(parents=True)
    for name in ("line/b.png", "line/monday/a.png", "line/.hidden"):
        (tmp_path / name).write_bytes(encoded(render("blister", 1)[0]))
    page.set_input_files("#directory", tmp_path / "line")
    expect(page.locator("#batch-save")).to_be_visible()
    names = page.locator("#rows td:first-child").all_inner_texts()
    assert sorted(names) == ["line/b.png", "line/monday/a.png"]
    expect(page.locator("#batch-count")).to_contain_text("2 of 2")


def test_a_full_service_is_asked_again(browser: Browser, bundle_folder: Path) -> None:
    refused: list[str] = []

    def refuse_first(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"detail": "full"})

    with listening(bundle_folder) as url:
        for page in opened(browser, url):
            page.route("**/detect*", refuse_first)
            expect(page.locator("#state")).to_have_text(re.compile("^tiny"))
            choose(page, *[(f"{number}.png", encoded(picture("brick"))) for number in range(4)])
            expect(page.locator("#batch-save")).to_be_visible()
            expect(page.locator("#batch-count")).to_have_text("4 of 4: 4 normal, 0 anomalous")
    assert refused


def test_a_format_that_browsers_do_not_show_has_its_map(page: Page) -> None:
    choose(page, ("board.tiff", encoded(render("board", 3, "logical_extra")[0], "TIFF")))
    expect(page.locator("#verdict-word")).to_have_text("ANOMALY")
    settled(page)
    expect(page.locator("#caption")).to_contain_text("a format that this browser does not show")
    expect(page.locator("#picture")).to_be_hidden()
    expect(page.locator("#map")).to_be_visible()


def test_pictures_are_dropped_and_pasted(page: Page) -> None:
    page.evaluate(
        """async () => {
            for (const kind of ["drop", "paste"]) {
                const picture = await (await fetch("gallery/board-good-3.jpg")).blob();
                const transfer = new DataTransfer();
                transfer.items.add(new File([picture], `${kind}.jpg`, { type: "image/jpeg" }));
                const event = kind === "drop"
                    ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true })
                    : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
                document.body.dispatchEvent(event);
            }
        }"""
    )
    expect(page.locator("#strip button")).to_have_count(2)
    for name in ("drop.jpg: NORMAL", "paste.jpg: NORMAL"):
        expect(page.get_by_role("button", name=name)).to_be_visible()


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


def test_the_camera_is_judged(page: Page) -> None:
    page.get_by_role("button", name="Camera").click()
    expect(page.locator("#video")).not_to_have_js_property("videoWidth", 0)
    page.get_by_role("button", name="Judge").click()
    expect(page.locator("#camera-verdict")).to_have_text("UNKNOWN PRODUCT")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#video")).to_have_js_property("srcObject", None)
