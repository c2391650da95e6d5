"""Uploaded bytes to an RGB picture, refusing what is too large before any pixel is decoded."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from export.contract.manifest import InputSpec
from export.contract.preprocess import Pixels, fit, orientation, to_rgb
from service.errors import Kind, Problem
from service.tiff import check_strips, check_tiff

SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "WEBP": (b"RIFF",),
    "GIF": (b"GIF87a", b"GIF89a"),
}
FORMATS = tuple(SIGNATURES)
JPEGS = ("JPEG", "MPO")  # the latter has several

MAX_SIDE = 65_535  # as JPEG; a resize takes memory by the side, gigabytes for one row of 100 megapixels

MARGIN = 2.5  # a JPEG is decoded with at least so many times the model's pixels, in each direction

START_OF_SCAN = b"\xff\xda"  # each goes over all pixels again; pixels themselves never look like that
SCANS = 10  # of a progressive JPEG

# Parts of which Pillow joins each to all before it, or unpacks each, and how many of them are read.
PARTS = {"JPEG": (b"Exif\0\0",), "PNG": (b"iCCP", b"zTXt", b"iTXt")}
MOST_PARTS = 64

RLE_EFFORT = 100  # times that of other pixels: Pillow unpacks those of a BMP in Python
RLE = (1, 2)  # a BMP's `compression`

STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the segments that tell a JPEG's size
FILL = 0xFF  # there may be any number before a segment
SEGMENTS = 64  # that are looked at, as many bytes between them

QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture that was looked at: (width, height) upright, pixels (H, W, 3) at model size, its bytes."""

    size: tuple[int, int]
    pixels: Pixels
    data: bytes

    @cached_property
    def image(self) -> Image.Image:
        """All of it as upright RGB, decoded when it is first asked for: until then it takes no memory."""
        return decode(self.data, math.inf)


class LargePictureError(Exception):
    """A picture takes more effort than was expected."""


def lift_pixel_limit() -> None:
    """Let Pillow open pictures of any size: its limit is one for the process, ours is checked by `decode`."""
    Image.MAX_IMAGE_PIXELS = None


def open_picture(data: bytes, spec: InputSpec, max_pixels: int, expected: float = math.inf) -> Opened:
    """Decode a picture and fit it to the model.

    expected: the most bytes, and pixels to decode. Raises: Problem as `decode`; LargePictureError when there
    are more, before any is decoded.
    """
    enough = (math.ceil(MARGIN * spec.width / spec.crop), math.ceil(MARGIN * spec.height / spec.crop))
    size, image = _decode(data, max_pixels, enough, expected)
    return Opened(size, fit(image, spec), data)


def decode(data: bytes, max_pixels: float) -> Image.Image:
    """The first frame of a picture as upright RGB, decoded in full.

    Raises: Problem (400 empty, 413 too many pixels, 415 not a picture type, 422 cannot be decoded).
    """
    return _decode(data, max_pixels, None, math.inf)[1]


def announced_effort(data: bytes) -> int:
    """Bytes or, if these are more, pixels that the header of a PNG or a JPEG tells; seen without decoding.

    What it tells may be wrong, and other types tell it elsewhere: `open_picture` looks again.
    """
    try:
        return max(len(data), math.prod(_announced_size(data)))
    except (IndexError, struct.error):  # cut off
        return len(data)


def _announced_size(data: bytes) -> Sequence[int]:
    if data.startswith(SIGNATURES["PNG"]):
        return struct.unpack_from(">II", data, 16)
    if data.startswith(SIGNATURES["JPEG"]):
        at = 2
        for _ in range(SEGMENTS):
            if data[at + 1] in STARTS_OF_FRAME:
                return struct.unpack_from(">HH", data, at + 5)
            at += 1 if data[at + 1] == FILL else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return ()


def _decode(data: bytes, max_pixels: float, enough: Size | None, expected: float) -> tuple[Size, Image.Image]:
    """The upright size of a picture, and the picture; a JPEG of more than `enough` pixels is reduced."""
    if not data:
        raise Problem(Kind.MALFORMED, "the picture is empty: 0 bytes")
    if len(data) > expected:  # a file may have a hundred thousand empty parts, which take long to go through
        raise LargePictureError
    try:
        _check_parts(data)
        image = Image.open(BytesIO(data), formats=FORMATS)
        size = image.size
        if _pixels_to_decode(image, data, max_pixels) > expected:
            raise LargePictureError
        if enough is not None and image.format in JPEGS:
            image.draft(None, _upright(enough, image))
        image.load()
        full = size if image.format in JPEGS else image.size  # those may be reduced; a TIFF is turned by now
        return _upright(full, image), to_rgb(image)
    except (Problem, LargePictureError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    except Exception as error:  # a decoder raises whatever a broken file makes it stumble over
        raise Problem(Kind.UNDECODABLE_PICTURE, f"the picture cannot be decoded: {error}") from error


def _check_parts(data: bytes) -> None:
    """Raises: Problem (413) for a picture of which all but the pixels would take minutes to read."""
    for name, marks in PARTS.items():
        if data.startswith(SIGNATURES[name]) and (parts := sum(map(data.count, marks))) > MOST_PARTS:
            detail = f"the picture has {parts} parts beside its pixels, at most {MOST_PARTS} are read"
            raise Problem(Kind.TOO_LARGE, detail)
    if data.startswith(SIGNATURES["TIFF"]):
        check_tiff(data)


def _upright(size: Size, image: Image.Image) -> Size:
    """A size, with sides exchanged if the picture lies on one of its own."""
    return (size[1], size[0]) if orientation(image) in QUARTER_TURNS else size


def _pixels_to_decode(image: ImageFile, data: bytes, max_pixels: float) -> float:
    """How many pixels a picture takes as long to decode as, whatever of them is shown.

    Raises: Problem (413) when it has more than `max_pixels`, or takes as long as one of ten times as many.
    """
    check_pixels(image.size, max_pixels)
    pixels = image.width * image.height
    is_jpeg = image.format in JPEGS
    if isinstance(image, TiffImageFile):  # a tile is decoded whole, however little of it is shown
        width, height = image.tag_v2.get(TILEWIDTH, 0), image.tag_v2.get(TILELENGTH, 0)
        check_pixels((width, height), max_pixels)
        pixels = max(pixels, width * height)
        check_strips(image.tag_v2, len(data))
        is_jpeg = image.info.get("compression") == "jpeg"
    told = ""
    if is_jpeg and (scans := data.count(START_OF_SCAN)) > SCANS:
        pixels *= scans / SCANS
        told = f"{scans} scans, progressive ones have {SCANS}"
    elif image.format == "BMP" and image.info.get("compression") in RLE:
        pixels *= RLE_EFFORT
        told = f"runs, the limit is {10 * max_pixels // RLE_EFFORT:.0f} of them"
    if told and pixels > 10 * max_pixels:
        detail = f"the picture has {image.width} x {image.height} pixels"
        raise Problem(Kind.TOO_LARGE, f"{detail}, told in {told}")
    return pixels


def check_pixels(size: tuple[int, int], max_pixels: float) -> None:
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


def _unidentified(data: bytes) -> Problem:
    """415 for bytes of no known type, 422 for a known type with a broken header."""
    for name, signatures in SIGNATURES.items():
        if data.startswith(signatures) and (name != "WEBP" or data[8:12] == b"WEBP"):
            return Problem(Kind.UNDECODABLE_PICTURE, f"the bytes start as {name}, but the header is broken")
    return Problem(Kind.NOT_A_PICTURE, f"the bytes are none of {', '.join(FORMATS)}")
