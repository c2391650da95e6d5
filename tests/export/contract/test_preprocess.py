import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from export.contract.manifest import InputSpec
from export.contract.preprocess import BAND_PIXELS, fit, to_rgb, visible_box

DESCRIPTION, ORIENTATION, PAGE_NUMBER = 0x010E, 0x0112, 0x0129
RED, WHITE = (255, 0, 0), (255, 255, 255)


def reopened(image: Image.Image, form: str, **options: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, form, **options)  # pyright: ignore[reportArgumentType]
    return Image.open(file)


@pytest.mark.parametrize("mode", ["RGB", "I;16", "P"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(mode: str, orientation: int):
    values = np.arange(0, 60000, 10000, dtype=np.uint16).reshape(2, 3)
    image = Image.fromarray(values)
    image = image if mode == "I;16" else Image.fromarray((values // 257).astype(np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    image.save(file, "png", exif=exif)
    expected = to_rgb(ImageOps.exif_transpose(Image.open(file)))
    np.testing.assert_array_equal(to_rgb(Image.open(file)), expected)


def test_damaged_exif_does_not_refuse_the_picture():
    """A text under a tag for numbers cannot be written again: Pillow's exif_transpose gives struct.error."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[DESCRIPTION] = 6, "abc"
    damaged = exif.tobytes().replace(b"\x01\x0e\x00\x02", b"\x01\x29\x00\x02")
    image = reopened(Image.new("RGB", (4, 2), RED), "jpeg", exif=damaged)
    assert image.getexif()[PAGE_NUMBER] == "abc"
    assert to_rgb(image).size == (2, 4)


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_exif_that_is_none_does_not_refuse_the_picture(form: str):
    image = reopened(Image.new("RGB", (4, 2), RED), form, exif=b"Exif\0\0garbage", dpi=(72, 72))
    assert to_rgb(image).size == (4, 2)


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((0, 0), (255, 0, 0, 0))
    rgb = to_rgb(image)
    assert [rgb.getpixel((x, 0)) for x in (0, 1)] == [WHITE, RED]


def test_transparent_palette_entry_is_laid_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    rgb = to_rgb(reopened(image, "png", transparency=1))
    assert [rgb.getpixel((x, 0)) for x in (0, 1)] == [RED, WHITE]


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_sixteen_bit_grey_keeps_its_whole_range(form: str):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    rgb = to_rgb(reopened(Image.fromarray(values), form))
    np.testing.assert_array_equal(np.asarray(rgb)[0, :, 0], [0, 1, 128, 255])


@pytest.mark.parametrize("values", [np.full((2, 3), 200, np.uint8), np.full((2, 3), 200 * 257, np.uint16)])
def test_a_tiff_whose_zero_is_white_is_inverted(values: np.ndarray):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "tiff")
    photometric = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # tag 262, one short number
    assert photometric + b"\x01" in file.getvalue()
    inverted = Image.open(io.BytesIO(file.getvalue().replace(photometric + b"\x01", photometric + b"\x00")))
    assert to_rgb(inverted).getpixel((0, 0)) == (55, 55, 55)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes_become_rgb(mode: str):
    assert to_rgb(Image.new("L", (3, 2), 255).convert("RGB").convert(mode)).mode == "RGB"


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    animation = reopened(frames[0], "gif", save_all=True, append_images=frames[1:])
    animation.seek(1)
    assert to_rgb(animation).getpixel((0, 0)) == RED


@pytest.mark.parametrize("crop", [1.0, 0.875, 0.3])
def test_fit_gives_model_size(crop: float):
    pixels = fit(Image.new("RGB", (333, 77), RED), InputSpec(height=28, width=42, crop=crop))
    assert pixels.shape == (28, 42, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == RED).all()


def test_fit_antialiases():
    checks = np.indices((280, 280)).sum(0) % 2 * 255
    image = Image.fromarray(checks.astype(np.uint8)).convert("RGB")
    assert abs(fit(image, InputSpec(height=28, width=28)).astype(int) - 127).max() <= 2


def test_crop_sees_the_visible_box_only():
    spec = InputSpec(height=28, width=28, resize="bilinear", crop=0.5)
    assert visible_box((100, 80), spec) == (25, 20, 75, 60)
    image = Image.new("RGB", (100, 80), WHITE)
    image.paste(RED, (20, 15, 80, 65))
    assert (fit(image, spec) == RED).all()


@pytest.mark.parametrize("size", [(1, 1), (641, 479), (3, 4000)])
def test_everything_is_visible_without_a_crop(size: tuple[int, int]):
    assert visible_box(size, InputSpec(height=392, width=378)) == (0, 0, *size)


@pytest.mark.parametrize("size", [(3, 2), (1, BAND_PIXELS + 1), (BAND_PIXELS + 1, 1), (700, 900)])
def test_a_large_transparent_picture_is_laid_on_white_as_a_small_one(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    rgba = Image.fromarray(pixels)
    white = Image.new("RGBA", size, (255, 255, 255, 255))
    np.testing.assert_array_equal(to_rgb(rgba), Image.alpha_composite(white, rgba).convert("RGB"))
