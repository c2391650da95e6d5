"""Uploaded bytes become the right picture, or the right problem."""

import struct

import numpy as np
import pytest
from PIL import Image

from service.errors import Kind, Problem
from service.images.decode import decode
from service.images.formats import FORMATS
from tests.service.conftest import encoded
from tests.service.images.made import LIMIT, gradient, problem_of


@pytest.mark.parametrize("picture_format", FORMATS)
def test_every_allowed_format_is_decoded(picture_format: str) -> None:
    image = decode(encoded(Image.new("RGB", (20, 10), (200, 60, 40)), picture_format), LIMIT)
    assert (image.mode, image.size) == ("RGB", (20, 10))
    assert np.abs(np.asarray(image, int) - (200, 60, 40)).max() <= 3


def test_other_formats_are_not_pictures() -> None:
    assert problem_of(encoded(gradient(), "TGA")) is Kind.NOT_A_PICTURE
    assert problem_of(b"P2\n1 1\n255\n7\n") is Kind.NOT_A_PICTURE
    assert problem_of(b"just some text") is Kind.NOT_A_PICTURE
    assert problem_of(b"RIFF\x04\0\0\0WAVE") is Kind.NOT_A_PICTURE


def test_empty_upload_is_malformed() -> None:
    assert problem_of(b"") is Kind.MALFORMED


@pytest.mark.parametrize("picture_format", FORMATS)
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_truncated_picture_is_never_half_decoded(picture_format: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), picture_format)
    assert problem_of(whole[: int(len(whole) * kept)]) is Kind.UNDECODABLE_PICTURE


def test_signature_with_a_broken_header_is_undecodable() -> None:
    assert problem_of(b"\x89PNG\r\n\x1a\n" + b"\0" * 40) is Kind.UNDECODABLE_PICTURE
    assert problem_of(b"\xff\xd8\xff" + b"\0" * 40) is Kind.UNDECODABLE_PICTURE


def test_a_palette_that_is_missing_has_a_reason() -> None:
    whole = encoded(Image.new("P", (8, 8)), "PNG")
    start = whole.index(b"PLTE") - 4
    (size,) = struct.unpack_from(">I", whole, start)
    with pytest.raises(Problem) as caught:
        decode(whole[:start] + whole[start + 12 + size :], LIMIT)
    assert caught.value.detail.removeprefix("the picture cannot be decoded: ")


def test_exif_turned_picture_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(encoded(gradient(64, 48), "JPEG", exif=exif), LIMIT)
    assert image.size == (48, 64)


def test_cmyk_palette_and_deep_grey_are_right() -> None:
    cmyk = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), LIMIT)
    assert np.abs(np.asarray(cmyk, int)[4, 4] - (255, 0, 0)).max() <= 3
    palette = decode(encoded(Image.new("RGB", (8, 8), (0, 200, 0)).quantize(4)), LIMIT)
    assert palette.getpixel((0, 0)) == (0, 200, 0)
    deep = decode(encoded(Image.fromarray(np.full((8, 8), 32896, np.uint16))), LIMIT)
    assert deep.getpixel((0, 0)) == (128, 128, 128)


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, LIMIT).getpixel((0, 0)) == (255, 0, 0)
