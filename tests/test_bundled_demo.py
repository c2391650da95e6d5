"""The bundle that comes with the repository: small, whole, repeatable, and able to see a defect."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.bundle import Bundle
from export.contract.decision import conformal_threshold
from export.contract.manifest import InputSpec
from export.contract.preprocess import fit
from service.inference.anomalymoe import Engine, Outcome, Picture
from training.demo.factory.registry import PRODUCTS
from training.demo.factory.render import render

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "bundles" / "demo"
RELATIVE = float(os.environ.get("SOAK_RELATIVE", "1e-6"))  # 0: to the last bit
SEED = 987_654

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="bundles/demo has not been built")

# Prints the raw score of each product's first picture, computed alone.
OTHER_PROCESS = f"""
import json
from tests.test_bundled_demo import SEED, computed, picture, read_engine
engine = read_engine()
names = {list(PRODUCTS)!r}
print(json.dumps([computed(engine, [picture(engine, name, SEED)])[0].raw_score for name in names]))
"""


def read_engine(threads: int = 1) -> Engine:
    return Engine(Bundle.read(FOLDER), device="cpu", threads=threads)


def picture(engine: Engine, product: str, seed: int, defect: str | None = None) -> Picture:
    """A drawn picture at model size, of no stated category."""
    spec: InputSpec = engine.manifest.input
    return Picture(fit(render(product, seed, defect)[0], spec))


def computed(engine: Engine, pictures: list[Picture]) -> list[Outcome]:
    results = engine.run(pictures)
    assert not [one for one in results if isinstance(one, Exception)]
    return [one for one in results if isinstance(one, Outcome)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return read_engine()


@pytest.fixture(scope="module")
def eight(engine: Engine) -> list[Picture]:
    """The first picture of each product, then others: eight in all."""
    names = (list(PRODUCTS) * 3)[:8]
    return [picture(engine, name, SEED + place // len(PRODUCTS)) for place, name in enumerate(names)]


@pytest.fixture(scope="module")
def together(engine: Engine, eight: list[Picture]) -> list[Outcome]:
    return computed(engine, eight)


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one.raw_score == pytest.approx(other.raw_score, rel=RELATIVE, abs=0)
    assert one.category.name == other.category.name
    largest = max(float(np.abs(other.map).max()), 1e-6)
    np.testing.assert_allclose(one.map, other.map, rtol=0, atol=RELATIVE * largest)


def test_it_is_whole_and_small() -> None:
    bundle = Bundle.read(FOLDER)
    assert bundle.manifest.kind == "anomalymoe"
    assert set(bundle.categories) == set(PRODUCTS)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 16e6


def test_a_picture_scores_the_same_alone_and_among_eight(
    engine: Engine, eight: list[Picture], together: list[Outcome]
) -> None:
    for one, other in zip(eight, together, strict=True):
        assert_same(computed(engine, [one])[0], other)


def test_the_order_does_not_matter(engine: Engine, eight: list[Picture], together: list[Outcome]) -> None:
    for one, other in zip(computed(engine, eight[::-1]), together[::-1], strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_do_not_matter(eight: list[Picture], together: list[Outcome], threads: int) -> None:
    engine = read_engine(threads)
    for size in (1, 3, 8):
        for start in range(0, len(eight) - size + 1, size):
            batch = slice(start, start + size)
            for one, other in zip(computed(engine, eight[batch]), together[batch], strict=True):
                assert_same(one, other)


def test_a_picture_scores_the_same_in_another_process(together: list[Outcome]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(result.stdout)
    expected = [outcome.raw_score for outcome in together[: len(PRODUCTS)]]
    assert found == pytest.approx(expected, rel=RELATIVE, abs=0)


def test_each_product_is_recognised(together: list[Outcome]) -> None:
    names = (list(PRODUCTS) * 3)[:8]
    assert [outcome.category.name for outcome in together] == names
    assert max(outcome.distance for outcome in together) < 1


@pytest.mark.parametrize("quality", [70, 90])
def test_a_good_picture_sent_as_jpeg_is_still_good(engine: Engine, quality: int) -> None:
    size = (engine.manifest.input.width, engine.manifest.input.height)
    for name in PRODUCTS:
        is_alarm = []
        for seed in range(SEED, SEED + 20):
            written = io.BytesIO()
            render(name, seed)[0].save(written, "JPEG", quality=quality)
            with Image.open(written) as image:
                assert image.size == size
                outcome = computed(engine, [Picture(fit(image, engine.manifest.input))])[0]
            assert outcome.category.name == name
            assert outcome.distance < 1
            is_alarm.append(outcome.raw_score > conformal_threshold(outcome.category.scores, 0.01))
        assert sum(is_alarm) <= 2


def test_a_hole_scores_higher_than_the_whole(
    engine: Engine, eight: list[Picture], together: list[Outcome]
) -> None:
    """A square of a tenth of each side, in the middle, black or white."""
    half = engine.manifest.input.height // 20
    for colour in (0, 255):
        torn = [Picture(one.pixels.copy()) for one in eight]
        for one in torn:
            middle = len(one.pixels) // 2
            one.pixels[middle - half : middle + half, middle - half : middle + half] = colour
        for one, other in zip(computed(engine, torn), together, strict=True):
            assert one.raw_score > other.raw_score, f"{other.category.name}, colour {colour}"


@pytest.mark.parametrize("product", PRODUCTS)
def test_damaged_pictures_score_higher_than_their_twins(engine: Engine, product: str) -> None:
    """Four twins of each structural kind, which differ by the defect alone; some are hard to see."""
    kinds = [kind for kind in PRODUCTS[product].kinds if kind.startswith("structural_")]
    cases = [(seed, kind) for kind in kinds for seed in range(SEED, SEED + 4)]
    good = computed(engine, [picture(engine, product, seed) for seed, _ in cases])
    damaged = computed(engine, [picture(engine, product, seed, kind) for seed, kind in cases])
    higher = [other.raw_score > one.raw_score for one, other in zip(good, damaged, strict=True)]
    assert sum(higher) >= 0.8 * len(cases), dict(zip(cases, higher, strict=True))
