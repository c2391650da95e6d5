"""Files of very many parts, or of large announced pictures, are refused before Pillow goes through them."""

import struct
import zlib

import pytest
from PIL import Image

from service.errors import Kind, Problem
from service.images.avif import frames_of
from service.images.decode import decode
from service.images.formats import FORMATS
from service.images.limits import LONG_FILL, MOST_LONG_FILLS, MOST_STEPS
from tests.service.conftest import encoded

LIMIT = 100_000_000
SIZE = (64, 48)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def riff(data: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(data)) + data


JPEG, PNG = (encoded(Image.new("RGB", SIZE), name) for name in ("JPEG", "PNG"))
GIF = encoded(Image.new("P", SIZE), "GIF", comment=b"c")
GIF_HEAD = GIF[: GIF.index(b"!")]
WEBP = encoded(Image.new("RGB", SIZE), "WEBP", lossless=True)
EXTENDED = b"WEBPVP8X" + struct.pack("<IIII", 10, 0, 63 | 47 << 24, 0)[:-2] + WEBP[12:]

MANY = {
    "JPEG, fill": lambda count: JPEG[:2] + count * b"\xff" + JPEG[2:],
    "JPEG, junk": lambda count: JPEG[:2] + b"\xff\xe0\0\2" + count * b"\1" + JPEG[2:],
    "JPEG, empty segments": lambda count: JPEG[:2] + count * b"\xff\xe0\0\2" + JPEG[2:],
    "JPEG, segments without an end": lambda count: JPEG[:2] + count * b"\xff\xe0\0\0" + JPEG[2:],
    "JPEG, restarts": lambda count: JPEG[:2] + count * b"\xff\xd0" + JPEG[2:],
    "PNG, empty chunks": lambda count: PNG[:33] + count * chunk(b"abCd") + PNG[33:],
    "PNG, empty pixels": lambda count: PNG[:33] + count * chunk(b"IDAT") + PNG[33:],
    "PNG, chunks after the pixels": lambda count: PNG[:-12] + count * chunk(b"abCd") + PNG[-12:],
    "GIF, zeros": lambda count: GIF_HEAD + count * b"\0" + GIF[len(GIF_HEAD) :],
    "GIF, comment": lambda count: GIF_HEAD + b"!\xfe" + count * b"\1a" + b"\0" + GIF[len(GIF_HEAD) :],
    "GIF, empty comments": lambda count: GIF_HEAD + count * b"!\xfe\0" + GIF[len(GIF_HEAD) :],
    "WEBP, empty chunks": lambda count: riff(EXTENDED + count * b"abcd\0\0\0\0"),
}


def refused(data: bytes) -> str:
    with pytest.raises(Problem) as caught:
        decode(data, LIMIT)
    assert caught.value.kind is Kind.TOO_LARGE
    return caught.value.detail


@pytest.mark.parametrize("kind", MANY)
def test_very_many_parts_are_refused_unread(kind: str) -> None:
    assert decode(MANY[kind](100), LIMIT).size == SIZE
    assert f"{MOST_STEPS} parts" in refused(MANY[kind](MOST_STEPS))


def test_fill_in_a_scan_is_bounded() -> None:
    assert decode(JPEG[:-2] + 10 * LONG_FILL + JPEG[-2:], LIMIT).size == SIZE
    assert "bytes of fill" in refused(JPEG[:-2] + (MOST_LONG_FILLS + 1) * LONG_FILL + JPEG[-2:])


def test_tables_are_bounded() -> None:
    tables = b"\xff\xdb" + struct.pack(">H", 2 + 65 * 1000) + (b"\0" + bytes([1]) * 64) * 1000
    assert "bytes of tables" in refused(JPEG[:2] + 2 * tables + JPEG[2:])


def test_a_canvas_is_checked_before_it_takes_memory() -> None:
    canvas = b"WEBPVP8X" + struct.pack("<II", 10, 0) + b"\xfe\x3f\0\xfe\x3f\0" + bytes(4)
    assert "16383 x 16383" in refused(riff(canvas))
    lossless = bytearray(WEBP)
    lossless[21:25] = struct.pack("<I", 16382 | 16382 << 14)
    assert "16383 x 16383" in refused(bytes(lossless))
    lossy = bytearray(encoded(Image.new("RGB", SIZE), "WEBP"))
    lossy[26:30] = struct.pack("<HH", 16383, 16383)
    assert "16383 x 16383" in refused(bytes(lossy))


@pytest.mark.parametrize(
    "extension", [b"", b"!\xf9\4\x08\0\0\0\0", b"!\xff\x0bNETSCAPE2.0\0\1a\0", b"!\1\0\1a\0"]
)
def test_a_frame_is_checked_before_it_takes_memory(extension: bytes) -> None:
    screen = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\0\0\0"
    frame = b"," + struct.pack("<HHHH", 0, 0, 65_535, 65_535) + b"\0\x08"
    assert "65535 x 65535" in refused(screen + extension + frame)


@pytest.mark.parametrize("gap", [b"\n#" + b"a" * 5000 + b"\n", b" " * 5000])
def test_a_header_of_a_pnm_is_short(gap: bytes) -> None:
    assert decode(b"P5 #comment\n1\n1 255\n7", LIMIT).size == (1, 1)
    with pytest.raises(Problem, match="no header of a PNM in its first 4096 bytes"):
        decode(b"P5" + gap + b"1 1 255\n7", LIMIT)


BOX = struct.pack(">II", *SIZE)
needs_avif = pytest.mark.skipif("AVIF" not in FORMATS, reason="Pillow has no AVIF here")


def avif(mode: str, size: tuple[int, int] = SIZE, **options: object) -> bytes:
    return encoded(Image.new(mode, size), "AVIF", **options)


def with_frames(data: bytes, times: int) -> bytes:
    """An AVIF whose only item ends with its frame so many times; both lie at the end of the file."""
    place, length = struct.unpack_from(">II", data, data.index(b"iloc") + 18)
    assert place + length == len(data)
    frame = data[data.index(b"\x32", place) :]
    told = struct.pack(">II", place, length + (times - 1) * len(frame))
    return data.replace(data[data.index(b"iloc") + 18 :][:8], told) + (times - 1) * frame


@needs_avif
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_avif_is_read_with_what_belongs_to_it(mode: str) -> None:
    data = avif(mode, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    assert decode(data, SIZE[0] * SIZE[1]).size == SIZE
    assert frames_of(data) == (1 + (mode == "RGBA"), *SIZE)


@needs_avif
def test_a_frame_of_an_avif_is_checked_whatever_the_header_says() -> None:
    hidden = avif("RGB", (640, 480)).replace(struct.pack(">II", 640, 480), BOX)
    assert decode(hidden, 640 * 480).size == SIZE
    with pytest.raises(Problem, match="640 x 480 pixels, the limit is 3072"):
        decode(hidden, SIZE[0] * SIZE[1])


@needs_avif
def test_the_frames_of_an_avif_are_bounded() -> None:
    data = avif("RGB")
    assert frames_of(with_frames(data, 9)) == (9, *SIZE)
    with pytest.raises(Problem, match="9 frames of up to 64 x 48 pixels"):
        decode(with_frames(data, 9), 2 * SIZE[0] * SIZE[1])
    assert f"{MOST_STEPS} parts" in refused(with_frames(data, MOST_STEPS))


@needs_avif
def test_an_avif_that_hides_its_frames_is_not_read() -> None:
    film = avif("RGB", save_all=True, append_images=[Image.new("RGB", SIZE)])
    with pytest.raises(Problem, match="a film"):
        decode(film, LIMIT)
    single = film.replace(b"moov", b"free").replace(b"ftypavis", b"ftypavif")
    assert frames_of(single) == (1, *SIZE)  # by the long header of a sequence
    data = avif("RGB")
    for end in range(12, len(data)):
        with pytest.raises(Problem):
            decode(data[:end], LIMIT)


@needs_avif
def test_the_extents_of_an_avif_are_bounded() -> None:
    """Three items are told so many extents, which take no bytes and are all of the file."""
    data = avif("RGB")
    start, end = (data.index(name) - 4 for name in (b"iloc", b"iinf"))

    def with_extents(item: int, count: int) -> bytes:
        items = 3 * struct.pack(">HHH", item, 0, count)
        iloc = b"iloc" + bytes(6) + struct.pack(">H", 3) + items
        return data[:start] + struct.pack(">I", 4 + len(iloc)) + iloc + data[end:]

    assert "its items share more" in refused(with_extents(1, 1))
    assert f"{MOST_STEPS} extents" in refused(with_extents(2, 2**15))
