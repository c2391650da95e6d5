"""Uploaded bytes become the right picture, or the right problem."""

import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from export.contract.preprocess import fit, to_rgb
from service.errors import Kind, Problem
from service.images.decode import LargePictureError, decode, open_picture
from service.images.formats import FORMATS
from service.images.header import announced_effort
from service.images.limits import MOST_PARTS, RLE_EFFORT, SCANS, START_OF_SCAN
from tests.service.conftest import encoded

LIMIT = 100_000_000


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
    return Image.fromarray(ramp.astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


def problem_of(data: bytes, max_pixels: int = LIMIT) -> Kind:
    with pytest.raises(Problem) as caught:
        decode(data, max_pixels)
    return caught.value.kind


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


def with_scans(count: int) -> bytes:
    """A progressive JPEG of 64 x 48 pixels, whose last scan is repeated."""
    file = BytesIO()
    Image.new("RGB", (64, 48), (90, 60, 30)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    begin = data.rindex(START_OF_SCAN)
    return data[:-2] + data[begin:-2] * count + data[-2:]


def test_a_jpeg_that_is_told_in_very_many_scans_is_larger_than_it_looks() -> None:
    spec = InputSpec(height=28, width=28)
    normal, slow = with_scans(0), with_scans(1000)
    assert normal.count(START_OF_SCAN) == SCANS
    assert open_picture(normal, spec, LIMIT, 64 * 48).size == (64, 48)
    assert open_picture(slow, spec, LIMIT).size == (64, 48)
    with pytest.raises(LargePictureError):
        open_picture(slow, spec, LIMIT, 100 * 64 * 48)
    with pytest.raises(Problem, match="64 x 48 pixels, told in 1010 scans"):
        open_picture(slow, spec, 10 * 64 * 48)


def test_a_file_of_more_bytes_than_expected_is_not_even_opened() -> None:
    with pytest.raises(LargePictureError):
        open_picture(b"BM, no more", InputSpec(height=28, width=28), LIMIT, 9)


def test_more_pixels_than_expected_are_told_before_any_is_decoded() -> None:
    spec = InputSpec(height=28, width=28)
    with pytest.raises(LargePictureError):
        open_picture(png_header(200, 100), spec, LIMIT, 19_999)
    assert open_picture(encoded(gradient()), spec, LIMIT, 64 * 48).size == (64, 48)
    with pytest.raises(Problem):
        open_picture(png_header(200, 100), spec, 19_999, 100)


def test_bytes_that_fill_a_jpeg_announce_nothing() -> None:
    data = encoded(Image.new("RGB", (700, 500)), "jpeg")
    filled = data[:2] + bytes([0xFF] * 9) + data[2:]
    assert decode(filled, LIMIT).size == (700, 500)
    assert announced_effort(filled) == 700 * 500


JPEG_HEADS = {"plain": {}, "progressive": {"progressive": True}, "comment": {"comment": b"x" * 60_000}}


@pytest.mark.parametrize("head", JPEG_HEADS)
def test_the_header_of_a_jpeg_announces_its_pixels(head: str) -> None:
    file = BytesIO()
    Image.new("RGB", (700, 500)).save(file, "jpeg", **JPEG_HEADS[head])
    assert announced_effort(file.getvalue()) == 700 * 500


def test_a_header_announces_pixels_or_bytes_whichever_are_more() -> None:
    assert announced_effort(png_header(200, 100)) == 200 * 100
    assert announced_effort(png_header(2, 1) + bytes(500)) > 500
    assert announced_effort(b"BM" + bytes(40)) == 42


@pytest.mark.parametrize("start", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00\x00"])
@pytest.mark.parametrize("rest", [b"", b"\x00", b"\x00" * 9, b"\xff" * 1000, bytes(range(256)) * 300])
def test_a_broken_header_announces_no_less_than_its_bytes(start: bytes, rest: bytes) -> None:
    assert announced_effort(start + rest) >= len(start + rest)


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


def test_too_many_pixels_are_refused_from_the_header_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert problem_of(png_header(20_000, 20_000)) is Kind.TOO_LARGE
    assert problem_of(encoded(gradient(64, 48)), 64 * 48 - 1) is Kind.TOO_LARGE
    assert decode(encoded(gradient(64, 48)), 64 * 48).size == (64, 48)


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


def test_one_long_row_is_too_large() -> None:
    assert problem_of(encoded(Image.new("1", (65_536, 1)))) is Kind.TOO_LARGE
    assert problem_of(encoded(Image.new("1", (1, 65_536)))) is Kind.TOO_LARGE
    assert decode(encoded(Image.new("1", (65_535, 1))), LIMIT).size == (65_535, 1)


def test_a_small_picture_in_a_large_tile_is_too_large() -> None:
    data = zlib.compress(bytes(2048 * 2048))
    tags = {
        256: 10,
        257: 10,
        258: 8,
        259: 8,
        262: 1,
        277: 1,
        322: 2048,
        323: 2048,
        324: 134,
        325: len(data),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data
    assert decode(tiff, LIMIT).size == (10, 10)
    assert problem_of(tiff, max_pixels=2048 * 2047) is Kind.TOO_LARGE
    with pytest.raises(LargePictureError):
        open_picture(tiff, InputSpec(height=28, width=28), LIMIT, 2048 * 2047)


def test_a_jpeg_of_very_many_parts_of_exif_is_refused_unread() -> None:
    """Pillow joins each to those before it: megabytes of them would take minutes, and no thread got on."""
    data = encoded(gradient(), "jpeg")
    part = b"\xff\xe1\x00\x12Exif\0\0" + bytes(10)
    assert decode(data[:2] + MOST_PARTS * part + data[2:], LIMIT).size == (64, 48)
    assert problem_of(data[:2] + (MOST_PARTS + 1) * part + data[2:]) is Kind.TOO_LARGE


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_a_png_of_very_many_packed_parts_is_refused_unread(kind: bytes) -> None:
    data, packed = encoded(gradient()), b"a\0\0" + zlib.compress(bytes(2**20))
    part = struct.pack(">I", len(packed)) + kind + packed + struct.pack(">I", zlib.crc32(kind + packed))
    assert decode(data[:33] + part + data[33:], LIMIT).size == (64, 48)
    assert problem_of(data[:33] + (MOST_PARTS + 1) * part + data[33:]) is Kind.TOO_LARGE


def test_a_bmp_of_runs_is_larger_than_it_looks() -> None:
    """Pillow unpacks it in Python, up to 0.3 microseconds a pixel."""
    head = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 0, 0, 54 + 1024, 40, 64, 48, 1, 8, 1, 0, 0, 0, 256, 0)
    runs = head + bytes(range(256)) * 4 + b"\x40\x07\0\0" * 48 + b"\0\1"
    spec = InputSpec(height=28, width=28)
    assert open_picture(runs, spec, LIMIT).size == (64, 48)
    with pytest.raises(LargePictureError):
        open_picture(runs, spec, LIMIT, 64 * 48 * RLE_EFFORT - 1)
    with pytest.raises(
        Problem, match=f"64 x 48 pixels, told in {len(runs)} bytes of runs, the limit is 3071"
    ):
        open_picture(runs, spec, 64 * 48 * RLE_EFFORT // 10 - 1)
    ends_of_rows = runs[:-2] + bytes(2 * 64 * 48)
    with pytest.raises(LargePictureError):
        open_picture(ends_of_rows, spec, LIMIT, 64 * 48 * RLE_EFFORT)
