"""What a picture costs to decode is told by its first bytes, and refused when it is too much."""

import struct
import warnings
import zlib
from io import BytesIO

import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from service.errors import Kind, Problem
from service.images.decode import LargePictureError, decode, open_picture
from service.images.header import announced_effort
from service.images.limits import MOST_PARTS, RLE_EFFORT, SCANS, START_OF_SCAN
from tests.service.conftest import encoded
from tests.service.images.made import LIMIT, gradient, png_header, problem_of


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


def test_too_many_pixels_are_refused_from_the_header_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert problem_of(png_header(20_000, 20_000)) is Kind.TOO_LARGE
    assert problem_of(encoded(gradient(64, 48)), 64 * 48 - 1) is Kind.TOO_LARGE
    assert decode(encoded(gradient(64, 48)), 64 * 48).size == (64, 48)


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
