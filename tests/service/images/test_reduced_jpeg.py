"""A large JPEG is decoded at a part of its size, with what the model sees unchanged."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from export.contract.preprocess import fit, to_rgb
from service.images.decode import open_picture
from tests.service.conftest import encoded
from tests.service.images.made import LIMIT, gradient


@pytest.mark.parametrize(
    ("size", "subsampling", "expected"),
    [
        ((128, 144), 0, (128, 144)),
        ((144, 144), 2, (72, 72)),
        ((640, 560), 2, (80, 70)),
        ((640, 560), 1, (160, 140)),  # 4:2:2
        ((641, 560), 0, (641, 560)),
        ((640, 568), 0, (80, 71)),
        ((640, 568), 2, (640, 568)),  # 568 are no whole blocks of colour
    ],
)
def test_a_jpeg_of_whole_blocks_is_reduced_while_two_and_a_half_times_the_model_are_left(
    size: tuple[int, int], subsampling: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[tuple[int, int]] = []

    def fit(image: Image.Image, _: InputSpec, __: float) -> None:
        fitted.append(image.size)

    monkeypatch.setattr("service.images.decode.fit", fit)
    data = encoded(Image.new("RGB", size), "jpeg", subsampling=subsampling)
    assert open_picture(data, InputSpec(height=28, width=28), LIMIT).size == size
    assert fitted == [expected]


def with_padding(picture: Image.Image, subsampling: int, **options: object) -> bytes:
    """A JPEG as a camera may write it: black, not the last pixels again, where its blocks reach beyond it."""
    block = 16 if subsampling == 2 else 8
    canvas = Image.new(
        picture.mode, (picture.width + -picture.width % 16, picture.height + -picture.height % block)
    )
    canvas.paste(picture)
    data = encoded(canvas, "jpeg", subsampling=subsampling, quality=90, **options)
    size = struct.pack(">HH", canvas.height, canvas.width)
    assert data.count(size) == 1
    return data.replace(size, struct.pack(">HH", picture.height, picture.width))


def trained_on(data: bytes, spec: InputSpec) -> np.ndarray:
    return fit(to_rgb(Image.open(BytesIO(data))), spec).astype(int)


def textured(size: tuple[int, int], mode: str) -> Image.Image:
    ys, xs = np.indices(size[::-1])
    waves = (128 + 60 * np.sin(xs / 25) + 40 * np.cos(ys / 31)).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(waves), *[Image.fromarray(waves[::-1])] * 2]).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("turn", [1, 6])
def test_a_jpeg_is_served_as_it_was_trained_on_whatever_its_blocks_hold_beyond_it(
    mode: str, subsampling: int, turn: int
) -> None:
    spec, exif = InputSpec(height=32, width=28), Image.Exif()
    exif[0x0112] = turn
    for side in range(320, 337):
        for size in ((side, side), (side, 480), (160, side)):
            data = with_padding(textured(size, mode), subsampling, exif=exif)
            served = open_picture(data, spec, LIMIT).pixels
            assert np.abs(served - trained_on(data, spec)).max() <= 8, size  # with the padding 30 and more


def test_a_jpeg_that_lies_on_its_side_is_reduced_as_if_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sizes: list[tuple[int, int]] = []

    def fit(image: Image.Image, _: InputSpec, __: float) -> None:
        sizes.append(image.size)

    monkeypatch.setattr("service.images.decode.fit", fit)
    data = encoded(Image.new("RGB", (1600, 800)), "jpeg", exif=exif)
    assert open_picture(data, InputSpec(height=160, width=80), LIMIT).size == (800, 1600)
    assert sizes == [(200, 400)]


def test_a_reduced_jpeg_is_whole_where_the_whole_is_asked_for() -> None:
    opened = open_picture(
        encoded(gradient(640, 480), "jpeg"), InputSpec(height=28, width=28), LIMIT, 640 * 480
    )
    assert opened.image.size == opened.size == (640, 480)
