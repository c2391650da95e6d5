"""How pictures come to the inspector: many, a folder, dropped, pasted, from the camera, to a full service."""

import re
from pathlib import Path

from tests.service.conftest import encoded, listening, picture
from tests.service.page.browsing import (
    IN_BROWSER,
    Browser,
    Page,
    Route,
    assert_accessible,
    choose,
    expect,
    opened,
    settled,
)
from training.demo.factory.render import render

pytestmark = IN_BROWSER


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


def test_the_camera_is_judged(page: Page) -> None:
    page.get_by_role("button", name="Camera").click()
    expect(page.locator("#video")).not_to_have_js_property("videoWidth", 0)
    page.get_by_role("button", name="Judge").click()
    expect(page.locator("#camera-verdict")).to_have_text("UNKNOWN PRODUCT")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#video")).to_have_js_property("srcObject", None)
