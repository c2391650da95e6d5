import io

import numpy as np
import pytest
from PIL import Image

from export.contract.decision import display_score
from export.contract.manifest import LEVELS as LEVEL_NAMES
from export.contract.manifest import InputSpec
from service.maps.encodings import MapEncoding, encode_map
from service.maps.placement import place_alone, place_in_picture
from service.maps.regions import MAX_REGIONS, find_regions

SPEC = InputSpec(height=28, width=28)
CROPPED = InputSpec(height=28, width=28, crop=0.5)
THRESHOLD = 0.3
LEVELS = np.zeros((3, 4, 4), np.float32)


def decoded(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image)


def encoded(raw_map: np.ndarray, threshold: float, encoding: MapEncoding, picture=None) -> bytes:
    """A map as it is."""
    return encode_map(raw_map, threshold, encoding, place_alone(raw_map), picture)


def in_picture(raw_map: np.ndarray, size: tuple[int, int], spec: InputSpec) -> np.ndarray:
    """Display scores in a picture of a size."""
    data = encode_map(raw_map, THRESHOLD, "npy", place_in_picture(size, spec))
    return np.load(io.BytesIO(data), allow_pickle=False)


@pytest.fixture
def raw_map() -> np.ndarray:
    """Values far from and as near as possible to the threshold."""
    threshold = np.float32(THRESHOLD)
    near = [np.nextafter(threshold, np.float32(edge)) for edge in (0, 1)]
    return np.array([[0, 0.01, 0.29, *near, threshold, 0.31, 1, 1e6]], np.float32)


@pytest.mark.parametrize(("encoding", "half", "dtype"), [("png", 127, np.uint8), ("png16", 32767, np.uint16)])
def test_grey_is_above_the_middle_exactly_above_the_threshold(raw_map, encoding, half, dtype):
    threshold = float(np.float32(THRESHOLD))
    grey = decoded(encoded(raw_map, threshold, encoding))
    assert grey.dtype == dtype
    np.testing.assert_array_equal(grey > half, raw_map > threshold)
    highest = 2 * half + 1
    np.testing.assert_allclose(grey / highest, display_score(raw_map, threshold), atol=1 / highest)


@pytest.mark.parametrize(("encoding", "half"), [("png", 127), ("png16", 32767)])
def test_the_next_value_after_any_threshold_is_above_the_middle(encoding, half):
    """The display score of such a value rounds to just below, at or above a half."""
    for threshold in np.random.default_rng(0).random(200, np.float32):
        around = np.array([[threshold, np.nextafter(threshold, np.float32(2))]])
        np.testing.assert_array_equal(
            decoded(encoded(around, float(threshold), encoding)) > half, [[False, True]]
        )


def test_threshold_zero_shows_every_error():
    grey = decoded(encoded(np.array([[0, 1e-30, 1e-6, 5]], np.float32), 0.0, "png"))
    np.testing.assert_array_equal(grey, [[0, 255, 255, 255]])


def test_npy_holds_display_scores(raw_map):
    scores = np.load(io.BytesIO(encoded(raw_map, THRESHOLD, "npy")), allow_pickle=False)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, raw_map / (raw_map + np.float32(THRESHOLD)), rtol=1e-6)


def test_overlay_keeps_the_picture_where_nothing_is_found_and_outlines_the_rest():
    picture = Image.new("RGB", (80, 60), (10, 120, 30))
    raw_map = np.zeros((30, 40), np.float32)
    raw_map[5:15, 10:30] = 1.0
    overlay = decoded(encoded(raw_map, THRESHOLD, "overlay", picture))
    assert overlay.shape == (30, 40, 3)
    assert (overlay[20:] == (10, 120, 30)).all()
    assert (overlay[5, 10:30] == 255).all()
    assert (overlay[5:15, 10] == 255).all()
    assert overlay[10, 20, 0] > 100


def test_overlay_needs_a_picture():
    with pytest.raises(ValueError, match="picture"):
        encoded(np.zeros((2, 2), np.float32), THRESHOLD, "overlay")


SIZES = [(640, 480), (28, 28), (5, 3), (1, 1), (3, 300), (300, 3), (40_000, 2), (2, 40_000)]


@pytest.mark.parametrize("size", SIZES)
def test_a_map_has_the_size_of_the_picture(size):
    for spec in (SPEC, CROPPED):
        assert in_picture(np.ones((28, 28), np.float32), size, spec).shape == (size[1], size[0])
    flat = in_picture(np.full((28, 28), THRESHOLD, np.float32), size, SPEC)
    np.testing.assert_array_equal(flat, 0.5)


@pytest.mark.parametrize("size", SIZES)
def test_a_map_is_resized_bilinearly_and_antialiased_where_it_shrinks(size):
    raw_map = np.random.default_rng(0).random((28, 28), np.float32)
    resized = np.asarray(Image.fromarray(raw_map).resize(size, Image.Resampling.BILINEAR))
    np.testing.assert_allclose(in_picture(raw_map, size, SPEC), display_score(resized, THRESHOLD), atol=1e-6)


@pytest.mark.parametrize(("encoding", "half"), [("png", 127), ("png16", 32767)])
def test_a_large_map_is_above_the_middle_exactly_where_it_is_above_the_threshold(encoding, half):
    raw_map = np.random.default_rng(0).random((28, 28), np.float32)
    place = place_in_picture((640, 480), SPEC)
    scores = np.load(io.BytesIO(encode_map(raw_map, THRESHOLD, "npy", place)))
    levels = decoded(encode_map(raw_map, THRESHOLD, encoding, place))
    clear = np.abs(scores - 0.5) > 1e-6
    np.testing.assert_array_equal((levels > half)[clear], (scores > 0.5)[clear])


def test_a_map_of_a_crop_is_zero_outside_it():
    placed = in_picture(np.full((28, 28), THRESHOLD, np.float32), (80, 40), CROPPED)
    expected = np.zeros((40, 80))
    expected[10:30, 20:60] = 0.5
    np.testing.assert_array_equal(placed, expected)


def test_regions_are_in_pixels_of_the_picture_largest_first():
    raw_map = np.zeros((28, 28), np.float32)
    raw_map[0:2, 0:3] = 0.6
    raw_map[10:20, 14:28] = 0.4
    raw_map[15, 20] = 0.9
    large, small = find_regions(raw_map, LEVELS, THRESHOLD, (280, 56), SPEC)
    assert (large.x, large.y, large.width, large.height, large.area) == (140, 20, 140, 20, 140 * 20)
    assert (small.x, small.y, small.width, small.height, small.area) == (0, 0, 30, 4, 120)
    assert large.peak == pytest.approx(0.75)
    assert small.peak == pytest.approx(2 / 3)


def test_regions_of_a_crop_are_shifted():
    raw_map = np.ones((28, 28), np.float32)
    [region] = find_regions(raw_map, LEVELS, THRESHOLD, (80, 40), CROPPED)
    assert (region.x, region.y, region.width, region.height) == (20, 10, 40, 20)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (641, 479), (4000, 3000)])
def test_regions_stay_inside_the_picture(size):
    raw_map = np.ones((28, 28), np.float32)
    raw_map[5] = 0
    for region in find_regions(raw_map, LEVELS, THRESHOLD, size, SPEC):
        assert region.x >= 0
        assert region.y >= 0
        assert region.x + region.width <= size[0]
        assert region.y + region.height <= size[1]
        assert 1 <= region.area <= region.width * region.height


@pytest.mark.parametrize("size", [(28, 28), (13, 27), (5, 9), (1, 20), (1, 1)])
def test_regions_of_a_small_picture_are_those_of_its_map(size):
    raw_map = np.zeros((28, 28), np.float32)
    raw_map[3:17, 4:11], raw_map[20:26, 16:27] = 0.7, 0.9
    seen = np.array(in_picture(raw_map, size, SPEC))
    regions = find_regions(raw_map, LEVELS, THRESHOLD, size, SPEC)
    assert sum(region.area for region in regions) == (seen > 0.5).sum()
    for region in regions:
        box = seen[region.y : region.y + region.height, region.x : region.x + region.width]
        assert region.peak == pytest.approx(box.max(), abs=1e-6)


def test_region_names_the_level_that_dominates_at_its_peak():
    raw_map = np.zeros((28, 28), np.float32)
    raw_map[14:21, 21:28] = 0.5
    raw_map[17, 24] = 1.0
    levels = LEVELS.copy()
    levels[0, 0, 0], levels[1, 2, 3], levels[2, 2, 3] = 9.0, 0.2, 0.8
    [region] = find_regions(raw_map, levels, THRESHOLD, (28, 28), SPEC)
    assert region.level == "global"


@pytest.mark.parametrize("seed", range(20))
def test_the_level_at_the_peak_is_that_of_levels_resized_to_the_map(seed: int):
    rng = np.random.default_rng(seed)
    levels = rng.random((3, 4, 5), np.float32)
    raw_map = np.zeros((28, 35), np.float32)
    peak = tuple(rng.integers(0, (28, 35)))
    raw_map[peak] = 1.0
    [region] = find_regions(raw_map, levels, THRESHOLD, (35, 28), SPEC)
    resized = [Image.fromarray(level).resize((35, 28), Image.Resampling.BILINEAR) for level in levels]
    assert region.level == LEVEL_NAMES[np.argmax([np.asarray(level)[peak] for level in resized])]


def test_pixels_at_the_threshold_are_no_region():
    raw_map = np.full((28, 28), 0.5, np.float32)
    assert find_regions(raw_map, LEVELS, 0.5, (28, 28), SPEC) == []


def test_regions_are_bounded():
    raw_map = np.zeros((28, 28), np.float32)
    raw_map[::2, ::2] = 1.0
    assert len(find_regions(raw_map, LEVELS, THRESHOLD, (28, 28), SPEC)) == MAX_REGIONS
