"""Pictures that failed in users' hands, asked of the bundled demo; ANOMOE_CASES names their folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from export.contract.bundle import Bundle
from export.contract.manifest import InputSpec
from export.contract.preprocess import fit, to_rgb
from service.app import create_app
from service.images.decode import decode, open_picture
from service.metrics import Metrics
from service.models.loading import load_models
from tests.service.conftest import settings_for
from training.data.dataset import find_samples
from training.data.pictures import load_mask

ROOT = Path(__file__).parents[1]
CASES = Path(os.environ.get("ANOMOE_CASES", ROOT.parent / "shared" / "cases"))
DEMO = ROOT / "bundles" / "demo"
PRODUCTS = ("blister", "board", "fabric")

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} (ANOMOE_CASES) is not there")


@pytest.fixture(scope="module")
def demo() -> Iterator[TestClient]:
    settings = settings_for(DEMO)
    metrics = Metrics()
    with TestClient(create_app(settings, load_models(settings, metrics), metrics)) as client:
        yield client


def asked(demo: TestClient, name: str, **parameters: str) -> dict[str, Any]:
    kind = {"jpg": "image/jpeg", "png": "image/png"}[name[-3:]]
    answer = demo.post(
        "/detect",
        params={"map": "none", **parameters},
        content=(CASES / name).read_bytes(),
        headers={"Content-Type": kind},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("product", PRODUCTS)
def test_good_pictures_are_normal_for_their_product_and_not_this_product_for_others(
    demo: TestClient, product: str
) -> None:
    for named in PRODUCTS:
        answer = asked(demo, f"good_{product}.png", category=named)
        assert answer["is_anomalous"] == (named != product)
        assert answer["reason"] == (None if named == product else "not_this_product")
        assert (answer["distance"] > answer["distance_limit"]) == (named != product)
    assert asked(demo, f"good_{product}.png")["category"] == product


@pytest.mark.parametrize("name", ["white_1x1.png", "black_1x1.png"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_blank_pictures_are_no_product(demo: TestClient, product: str, name: str) -> None:
    assert asked(demo, name, category=product)["is_anomalous"]


def test_a_damaged_board_without_colours_is_anomalous(demo: TestClient) -> None:
    assert asked(demo, "board_damaged_grey.png", category="board")["is_anomalous"]


def test_what_a_jpeg_holds_beyond_its_picture_does_not_show(demo: TestClient) -> None:
    assert not asked(demo, "blister_1001_padding.jpg", category="blister")["is_anomalous"]
    spec = Bundle.read(DEMO).manifest.input
    path = CASES / "grey_961_padding.jpg"
    served = open_picture(path.read_bytes(), spec, 10**9).pixels
    trained = fit(to_rgb(Image.open(path)), spec)
    assert np.abs(served.astype(int) - trained).max() <= 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [("white12.tif", (255, 255, 255)), ("float1.tif", (255, 255, 255)), ("red_alpha0.bmp", (255, 0, 0))],
)
def test_depth_and_alpha(name: str, expected: tuple[int, int, int]) -> None:
    assert decode((CASES / name).read_bytes(), 10**9).getpixel((0, 0)) == expected


@pytest.mark.parametrize(
    ("name", "share"),
    [("mask_palette", 1 / 16), ("mask_alpha", 1 / 16), ("mask_exif9", 1 / 32), ("mask_exif_ascii", 1 / 32)],
)
def test_masks(name: str, share: float) -> None:
    [damaged] = [one for one in find_samples(CASES / name) if one.is_anomalous]
    mask = load_mask(damaged, InputSpec(height=8, width=8))
    assert mask is not None
    assert mask.mean() == share
