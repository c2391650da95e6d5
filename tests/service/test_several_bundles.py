"""Several bundles: without a category each is asked, and the nearest product answers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from export.contract.bundle import Bundle, write_bundle
from tests.service.conftest import ServiceFactory, encoded
from tests.tiny_bundle import make_tiny_bundle, plain_picture, spotted_picture, tiny_category, unknown_picture

PNG = {"Content-Type": "image/png"}
ALONE: dict[str, Callable[[], Image.Image]] = {
    "good": lambda: plain_picture("brick"),
    "spotted": lambda: spotted_picture("brick"),
    "unknown": unknown_picture,
}


def line(folder: Path, category: str) -> Path:
    """A bundle that knows one product only."""
    bundle = Bundle.read(make_tiny_bundle(folder.with_name(f"{folder.name}-whole")))
    manifest = bundle.manifest.model_copy(update={"name": folder.name, "categories": (category,)})
    files = {
        path: (bundle.folder / path).read_bytes() for path in manifest.files if path.startswith("graphs/")
    }
    write_bundle(folder, manifest, files, [replace(tiny_category(category), chosen=None)])
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("lines")
    return line(root / "line-1", "slate"), line(root / "line-2", "brick")


def verdict(service: TestClient, picture: Image.Image) -> dict[str, object]:
    answer = service.post("/detect?map=none", content=encoded(picture), headers=PNG)
    assert answer.status_code == 200, answer.text
    kept = ("category", "category_source", "is_anomalous", "reason", "score", "threshold", "distance")
    return {"model": answer.json()["model"]["name"], **{name: answer.json()[name] for name in kept}}


def test_each_picture_is_answered_by_the_bundle_that_knows_it(
    start_service: ServiceFactory, lines: tuple[Path, Path]
) -> None:
    for order in (lines, lines[::-1]):
        service = start_service(bundles=",".join(map(str, order)))
        for name, product in (("line-1", "slate"), ("line-2", "brick")):
            found = verdict(service, plain_picture(product))
            assert (found["model"], found["category"], found["is_anomalous"]) == (name, product, False)
        assert verdict(service, unknown_picture())["reason"] == "unknown_product"


@pytest.mark.parametrize("picture", ALONE.values(), ids=ALONE)
def test_another_bundle_changes_no_verdict(
    start_service: ServiceFactory, lines: tuple[Path, Path], picture: Callable[[], Image.Image]
) -> None:
    alone = verdict(start_service(bundles=str(lines[1])), picture())
    beside = verdict(start_service(bundles=",".join(map(str, lines))), picture())
    assert (beside["is_anomalous"], beside["reason"]) == (alone["is_anomalous"], alone["reason"])
    if alone["category"]:
        assert beside == alone


def test_a_batch_is_asked_of_all(start_service: ServiceFactory, lines: tuple[Path, Path]) -> None:
    service = start_service(bundles=",".join(map(str, lines)))
    files = [
        ("file", (f"{name}.png", encoded(plain_picture(name)), "image/png")) for name in ("brick", "slate")
    ]
    answer = service.post("/detect/batch?map=none", files=files).json()
    assert [one["category"] for one in answer["results"]] == ["brick", "slate"]
