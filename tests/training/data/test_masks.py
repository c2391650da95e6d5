"""What a mask file marks, in every form that programs write."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from export.contract.depth import DepthError
from tests.exif import NOT_TURNED, TURNED
from tests.export.contract.test_depth import png
from training.data.masks import marked

SHAPE = (48, 64)
HOLE = np.zeros(SHAPE, np.bool_)
HOLE[8:24, 16:40] = True
WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


def read(image: Image.Image, form: str = "PNG", **options: Any) -> npt.NDArray[np.bool_]:
    """What is marked in the picture once it has been written and read."""
    file = BytesIO()
    image.save(file, form, **options)
    with Image.open(file) as reopened:
        return marked(reopened)


def coloured(hole: tuple[int, ...], ground: tuple[int, ...]) -> Image.Image:
    """RGB or RGBA: one colour where the hole is, another around it."""
    return Image.fromarray(np.where(HOLE[..., None], hole, ground).astype(np.uint8))


def palette(hole: int, colours: list[tuple[int, int, int]]) -> Image.Image:
    """Palette numbers: `hole` where it is, the other of 0 and 1 around it."""
    image = Image.fromarray(np.where(HOLE, hole, 1 - hole).astype(np.uint8)).convert("L")
    image.putpalette([value for colour in colours for value in colour])
    return image


@pytest.mark.parametrize(
    ("hole", "colours"),
    [(0, [WHITE, BLACK]), (1, [BLACK, WHITE]), (0, [(0, 1, 0), BLACK]), (1, [BLACK, RED])],
)
@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF"])
def test_a_palette_is_read_by_colour(hole: int, colours: list[tuple[int, int, int]], form: str) -> None:
    np.testing.assert_array_equal(read(palette(hole, colours), form), HOLE)


def test_a_transparent_number_of_a_palette_marks_nothing() -> None:
    np.testing.assert_array_equal(read(palette(1, [WHITE, RED]), transparency=0), HOLE)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("hole", "ground"),
    [
        ((*BLACK, 255), (*BLACK, 0)),
        ((*WHITE, 255), (*WHITE, 0)),
        ((*BLACK, 1), (*BLACK, 0)),
        ((*RED, 128), (*WHITE, 0)),
        ((*RED, 255), (*BLACK, 255)),
        ((*RED, 0), (*BLACK, 0)),
        ((*WHITE, 254), (*BLACK, 255)),
    ],
)
def test_alpha_marks_where_colour_does_not(hole: tuple[int, ...], ground: tuple[int, ...], form: str) -> None:
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(read(coloured(hole, ground), form, **options), HOLE)


def test_what_is_black_or_transparent_is_not_marked_where_both_vary() -> None:
    pixels = np.asarray(coloured((*RED, 255), (*BLACK, 255))).copy()
    pixels[:, 50:] = (*WHITE, 0)
    np.testing.assert_array_equal(read(Image.fromarray(pixels)), HOLE)


def test_grey_with_alpha() -> None:
    np.testing.assert_array_equal(read(coloured((*BLACK, 255), (*BLACK, 0)).convert("LA")), HOLE)


@pytest.mark.parametrize("hole", [(0, 0, 1), (0, 0, 2), (1, 0, 0), (0, 255, 0)])
@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM", "TIFF"])
def test_a_small_value_in_one_channel_marks(hole: tuple[int, ...], form: str) -> None:
    np.testing.assert_array_equal(read(coloured(hole, BLACK), form), HOLE)


@pytest.mark.parametrize(
    ("dtype", "value", "form"),
    [
        (np.uint8, 1, "PNG"),
        (np.uint8, 255, "PPM"),
        (np.uint16, 1, "PNG"),
        (np.uint16, 65535, "TIFF"),
        (np.int32, -1, "TIFF"),
        (np.float32, 0.01, "TIFF"),
        (np.bool_, True, "PNG"),
        (np.bool_, True, "TIFF"),
    ],
)
def test_any_number_marks(dtype: npt.DTypeLike, value: float, form: str) -> None:
    np.testing.assert_array_equal(read(Image.fromarray((HOLE * value).astype(dtype)), form), HOLE)


@pytest.mark.parametrize(
    ("value", "quality", "least"), [(1, 95, 0.8), (2, 95, 0.8), (20, 75, 0.97), (255, 30, 0.99), (255, 95, 1)]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossy_files_mark_by_what_they_hold(value: int, quality: int, least: float, mode: str) -> None:
    """Intersection over union: what is a mark in one file is noise around the marks of another."""
    image = Image.fromarray((HOLE * value).astype(np.uint8)).convert(mode)
    found = read(image, "JPEG", quality=quality)
    assert (found & HOLE).sum() / (found | HOLE).sum() >= least


def test_compression_counts_and_not_the_name() -> None:
    image = Image.fromarray((HOLE * 255).astype(np.uint8))
    found = read(image, "TIFF", compression="jpeg", quality=30)
    assert (found & HOLE).sum() / (found | HOLE).sum() >= 0.99


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("value", [0, 255])
def test_an_even_mask_marks_nothing_or_all(form: str, value: int) -> None:
    assert (read(Image.new("L", (SHAPE[1], SHAPE[0]), value), form) == bool(value)).all()


def test_a_mask_is_turned_as_it_says() -> None:
    np.testing.assert_array_equal(read(Image.fromarray(HOLE), exif=TURNED), np.rot90(HOLE, -1))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow
@pytest.mark.parametrize("exif", NOT_TURNED, ids=bytes.hex)
def test_exif_that_is_none_turns_nothing(exif: bytes) -> None:
    np.testing.assert_array_equal(read(Image.fromarray(HOLE), exif=exif), HOLE)


@pytest.mark.parametrize("value", [1, 200, 255, 256, 65535])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_small_number_of_16_bits_marks_in_any_channel(value: int, channel: int) -> None:
    samples = np.zeros((6, 8, 3), np.uint16)
    samples[1:3, 2:4, channel] = value
    ppm = b"P6 8 6 65535\n" + samples.astype(">u2").tobytes()
    for file in (png(samples), ppm, png(np.dstack((samples, np.full((6, 8), 65535, np.uint16))))):
        with Image.open(BytesIO(file)) as mask:
            np.testing.assert_array_equal(marked(mask), samples.any(axis=-1))


def test_16_bits_whose_lower_ones_are_lost_are_refused() -> None:
    grey_and_alpha = np.full((6, 8, 2), 200, np.uint16)
    with Image.open(BytesIO(png(grey_and_alpha))) as mask, pytest.raises(DepthError, match="lower ones"):
        marked(mask)
