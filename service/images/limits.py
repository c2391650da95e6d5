"""What a picture may cost: its pixels, and the parts of its file, looked at before any is unpacked."""

import re
import struct
from collections.abc import Callable, Iterator

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ROWSPERSTRIP, TILELENGTH, TILEWIDTH, TiffImageFile

from service.errors import Kind, Problem
from service.images.avif import frames_of
from service.images.formats import format_of
from service.images.tiff import check_strips, check_tiff, places_of_strips

MAX_SIDE = 65_535  # as JPEG; a resize takes memory by the side, gigabytes for one row of 100 megapixels

START_OF_SCAN = b"\xff\xda"  # each goes over all pixels again; pixels themselves never look like that
SCANS = 10  # of a progressive JPEG
MOST_SCANNED = 4  # times max_pixels in as many scans or frames: with more a thread would be held for 10 s

MOST_STEPS = 2**16  # through a file, each of which takes Pillow microseconds: parts, or bytes between them

# Parts of which Pillow joins each to all before it, or unpacks each, and how many of them are read.
PARTS = {"JPEG": (b"Exif\0\0", b"Photoshop 3.0\0"), "PNG": (b"iCCP", b"zTXt", b"iTXt")}
MOST_PARTS = 64

FILL = 0xFF  # any number of them may be in front of a segment
LONG_FILL = b"\xff" * 4096  # in a scan they stay with Pillow, which joins each 64 KiB that it reads to them
MOST_LONG_FILLS = 256
TABLES = 0xDB  # the segment of quantisation tables
MOST_TABLE_BYTES = 2**16  # there are four tables of 130 bytes at most, which may be told again
ALONE = frozenset({0, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})  # what Pillow takes for a marker alone

COMMENT, APPLICATION = 0xFE, 0xFF  # extensions of a GIF

# Magic number, width, height and, but for P4, the highest value, with comments between them.
PNM_HEAD = re.compile(
    rb"P(?:4(?:(?:\s|#[^\r\n]*[\r\n])+\d+){2}|[56f](?:(?:\s|#[^\r\n]*[\r\n])+[-+.\de]+){3})\s"
)
MOST_PNM_HEAD = 4096  # bytes

# Of a TIFF, for black and white: their decoder goes on after an error, and tells each one on stderr.
FAX = frozenset({"tiff_ccitt", "group3", "group4", "tiff_raw_16"})

RLE_EFFORT = 100  # times that of other pixels or bytes: Pillow unpacks those of a BMP in Python
RLE = (1, 2)  # a BMP's `compression`

Size = tuple[int, int]


def check_pixels(size: Size, max_pixels: float) -> None:
    """Refuse a picture of more than `max_pixels`, or MAX_SIDE in a row or column; size is (width, height).

    Raises: Problem (413).
    """
    width, height = size
    if max(size) > MAX_SIDE:
        detail = f"the picture has {width} x {height} pixels, the limit is {MAX_SIDE} in each direction"
        raise Problem(Kind.TOO_LARGE, detail)
    if width * height > max_pixels:
        detail = f"the picture has {width} x {height} pixels, the limit is {max_pixels} in all"
        raise Problem(Kind.TOO_LARGE, detail)


def check_parts(data: bytes, max_pixels: float) -> None:
    """Refuse a picture that takes long, or much memory, before its pixels are reached.

    Raises: Problem (413; 422 where there is no header in reach).
    """
    name = format_of(data) or ""
    if (parts := sum(map(data.count, PARTS.get(name, ())))) > MOST_PARTS:
        detail = f"the picture has {parts} parts beside its pixels, at most {MOST_PARTS} are read"
        raise Problem(Kind.TOO_LARGE, detail)
    if check := _CHECKS.get(name):
        try:
            check(data, max_pixels)
        except (IndexError, struct.error):  # cut off, of which Pillow has more to say
            return


def pixels_to_decode(image: ImageFile, data: bytes, max_pixels: float) -> float:
    """How many pixels a picture takes as long to decode as, whatever of them is shown.

    Raises: Problem (413) when it has more than `max_pixels`, or takes as long as one of several times that;
    (422) where it is a fax.
    """
    check_pixels(image.size, max_pixels)
    pixels = image.width * image.height
    is_jpeg = isinstance(image, JpegImageFile)
    if isinstance(image, TiffImageFile):  # a tile is decoded whole, however little of it is shown
        width, height = image.tag_v2.get(TILEWIDTH, 0), image.tag_v2.get(TILELENGTH, 0)
        check_pixels((width, height), max_pixels)
        pixels = max(pixels, width * height)
        check_strips(image.tag_v2, len(data))
        if image.info.get("compression") in FAX:
            raise Problem(Kind.UNDECODABLE_PICTURE, "a TIFF that is compressed as a fax (CCITT) is not read")
        is_jpeg = image.info.get("compression") == "jpeg"
    told = ""
    scans, together = _scans(image, data) if is_jpeg else (0, 0)
    if scans * together > SCANS * pixels:
        pixels = scans * together / SCANS
        told = f"{scans} scans, progressive ones have {SCANS}"
    elif image.format == "BMP" and image.info.get("compression") in RLE:
        pixels = RLE_EFFORT * max(pixels, len(data))
        told = f"{len(data)} bytes of runs, the limit is {10 * max_pixels // RLE_EFFORT:.0f} of both"
    if told and pixels > (MOST_SCANNED if is_jpeg else 10) * max_pixels:
        detail = f"the picture has {image.width} x {image.height} pixels"
        raise Problem(Kind.TOO_LARGE, f"{detail}, told in {told}")
    return pixels


def _scans(image: ImageFile, data: bytes) -> tuple[int, int]:
    """In how many scans a JPEG is told, and over how many pixels each goes.

    Each strip or tile of a TIFF is a JPEG of its own, if it says how long it is.
    """
    together = image.width * image.height
    if isinstance(image, TiffImageFile):
        tags, places = image.tag_v2, places_of_strips(image.tag_v2)
        tile = tags.get(TILEWIDTH, 0) * tags.get(TILELENGTH, 0)
        if places and all(length for _, length in places):
            scans = sum(data.count(START_OF_SCAN, at, at + length) for at, length in places)
            return scans, tile or image.width * min(tags.get(ROWSPERSTRIP, image.height), image.height)
        together = max(together, tile)
    return data.count(START_OF_SCAN), together


def _check_png(data: bytes, _: float) -> None:
    at = 8
    for _ in range(MOST_STEPS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND":
            return
        at += 12 + length
    raise _too_many_steps("PNG", at)


def _check_jpeg(data: bytes, _: float) -> None:
    if (fills := data.count(LONG_FILL)) > MOST_LONG_FILLS:
        raise Problem(Kind.TOO_LARGE, f"the picture has {fills * len(LONG_FILL)} bytes of fill")
    at, table_bytes = 2, 0
    for _ in range(MOST_STEPS):
        marker = data[at + 1] if data[at] == FILL else FILL
        if data.startswith(START_OF_SCAN, at):
            return
        if marker == FILL:  # or what belongs to nothing
            at += 1
        elif marker in ALONE:
            at += 2
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            at += 2 + max(2, length)
            table_bytes += length if marker == TABLES else 0
        if table_bytes > MOST_TABLE_BYTES:
            detail = f"the picture has {table_bytes} bytes of tables, at most {MOST_TABLE_BYTES} are read"
            raise Problem(Kind.TOO_LARGE, detail)
    raise _too_many_steps("JPEG", at)


def _check_gif(data: bytes, max_pixels: float) -> None:
    """The frame takes memory as soon as a file is opened, if it says what is to become of it afterwards."""
    at = 0
    for step, at in enumerate(_gif_steps(data)):
        if step == MOST_STEPS:
            raise _too_many_steps("GIF", at)
    width, height = struct.unpack_from("<HH", data, 6)
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, at + 1)
    check_pixels((max(width, left + frame_width), max(height, top + frame_height)), max_pixels)


def _gif_steps(data: bytes) -> Iterator[int]:
    """Where Pillow gets, from byte to byte and from block to block, at last to the first frame or the end."""
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0)
    while data[at] not in b",;":
        at += 1
        if data[at - 1] == ord("!"):
            label, length = data[at : at + 2]
            block = data[at + 2 : at + 2 + length]
            at += 2 + length
            if label == APPLICATION and block.startswith(b"NETSCAPE2.0"):
                at += 1 + data[at]
            while (label != COMMENT or block) and data[at]:
                at += 1 + data[at]
                yield at
            at += label != COMMENT or bool(block)  # the empty block that ends it
        yield at
    yield at


def _check_webp(data: bytes, max_pixels: float) -> None:
    """The canvas takes memory, twice, as soon as a file is opened."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    check_pixels((width, height), max_pixels)
    at = 12
    for _ in range(MOST_STEPS):
        (length,) = struct.unpack_from("<I", data, at + 4)
        at += 8 + length + length % 2
    raise _too_many_steps("WEBP", at)


def _check_avif(data: bytes, max_pixels: float) -> None:
    """Frames are decoded as large as they are, and then scaled to the size that the header announces."""
    frames, width, height = frames_of(data)
    check_pixels((width, height), max_pixels)
    if frames * width * height > MOST_SCANNED * max_pixels:
        raise Problem(Kind.TOO_LARGE, f"the picture has {frames} frames of up to {width} x {height} pixels")


def _check_pnm(data: bytes, _: float) -> None:
    if not PNM_HEAD.match(data[:MOST_PNM_HEAD]):
        detail = f"the picture has no header of a PNM in its first {MOST_PNM_HEAD} bytes"
        raise Problem(Kind.UNDECODABLE_PICTURE, detail)


def _too_many_steps(name: str, at: int) -> Problem:
    detail = f"the {name} has {MOST_STEPS} parts in {at} bytes, no more are looked at"
    return Problem(Kind.TOO_LARGE, detail)


_CHECKS: dict[str, Callable[[bytes, float], None]] = {
    "PNG": _check_png,
    "JPEG": _check_jpeg,
    "GIF": _check_gif,
    "WEBP": _check_webp,
    "PPM": _check_pnm,
    "AVIF": _check_avif,
    "TIFF": lambda data, _: check_tiff(data),
}
