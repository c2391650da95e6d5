"""Samples of more than 8 bits to 8 bits: which value of a file is white."""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    TiffImageFile,
)

Samples = npt.NDArray[Any]

BAND_SAMPLES = 2**20  # that are scaled at once

_DEEP_GREY = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
# Of colours of 16 bits Pillow keeps the upper 8. In the other order of bytes these are the lower ones.
_OTHER_ORDER = {
    f"{colours};16{order}": f"{colours};16{other}"
    for colours in ("RGB", "RGBA", "RGBX")
    for order, other in ("BL", "LB", "NB")
}
_DEEP = ("16B", "16L", "16N")  # ends of the raw modes of 16 bits a sample
_MAXIMA = (341, 281)  # a TIFF's SMaxSampleValue and MaxSampleValue
_ALL_ONES = frozenset(2**depth - 1 for depth in range(8, 17))
_SIGNED = 2  # a TIFF's SampleFormat
_IN_PLANES = 2  # a TIFF's PlanarConfiguration
_SLACK = 1 / 255  # of floats, which filters take a little beyond black and white


class DepthError(ValueError):
    """Samples of which nobody can tell how bright they are; the message says what they are."""


def to_8_bits(image: Image.Image, bit_depth: int | None = None) -> Image.Image:
    """A picture with 8 bits a sample, loaded; one from a file must not have been loaded before.

    bit_depth: of samples of more than 8 bits, whatever the file says of them. Without it a TIFF tells by
    BitsPerSample or a maximum of all ones, a PNG by sBIT, a PGM or PPM by its maximum, and floats are 0 to 1.
    Raises DepthError for samples beyond that, for those of 32 bits of which nothing is told, and for deep
    ones with a transparent colour.
    """
    maximum = _unscaled(image) if isinstance(image, PpmImageFile) else None
    raw_mode = _raw_mode(image)
    is_colour = raw_mode in _OTHER_ORDER
    is_deep = is_colour or image.mode in _DEEP_GREY
    is_halved = raw_mode.endswith(_DEEP) and not is_deep  # of these the lower 8 bits cannot be had
    white = maximum or _told_white(image, is_deep or is_halved)
    significant = _significant_bits(image) if white == 65535 and isinstance(image, PngImageFile) else 0
    if bit_depth and (is_deep or is_halved):
        white, significant = 2**bit_depth - 1, 0
    if is_deep and "transparency" in image.info:
        raise DepthError("samples of 16 bits are not read with a transparent colour (tRNS): save alpha")
    if white is None:
        raise DepthError("the samples have 32 bits; bit_depth says how many of them are used")
    if is_halved and (used := significant or white.bit_length()) < 16:
        raise DepthError(f"samples of {used} bits in 16 are not read with alpha or as CMYK ({raw_mode})")
    if white == 255 or ((is_colour or is_halved) and white == 65535 and not significant):
        image.load()
        return image
    samples = _samples(image, is_colour)
    if significant and _is_unscaled(samples, significant):
        white = 2**significant - 1
    grey = _from_floats(samples, white) if image.mode == "F" else _from_numbers(samples, white)
    zero_is_white = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
    return Image.fromarray(255 - grey if zero_is_white else grey)


def lower_bytes(image: Image.Image) -> Samples | None:
    """The lower bytes (H, W, 3 or 4) of colours of 16 bits, of which Pillow keeps the upper; else None.

    Of a picture that has not been loaded. Raises DepthError where they cannot be had.
    """
    if isinstance(image, PpmImageFile):
        _unscaled(image)
    raw_mode = _raw_mode(image)
    if raw_mode in _OTHER_ORDER and isinstance(image, ImageFile):
        return _loaded(_in_other_order(image))
    if raw_mode.endswith(_DEEP) and image.mode not in _DEEP_GREY:
        raise DepthError(f"of 16 bits ({raw_mode}) the lower ones are lost: save 8 bits, or no alpha")
    return None


def _told_white(image: Image.Image, is_deep: bool) -> int | None:
    """The sample that is white, as far as a file tells it."""
    if isinstance(image, TiffImageFile):
        return _tiff_white(image)
    if image.mode == "F":
        return 1
    return 65535 if is_deep else 255


def _tiff_white(image: TiffImageFile) -> int | None:
    tags = image.tag_v2
    bits = max(tags.get(BITSPERSAMPLE, (1,)))
    if bits <= 8:
        if _SIGNED in tags.get(SAMPLEFORMAT, ()):
            raise DepthError("the samples are signed, of 8 bits")
        if image.mode == "P" and 0 < max(tags[COLORMAP]) <= 255:  # of 16 bits it would be black
            raise DepthError("the colours of the palette have 8 bits, in a TIFF they have 16")
        return 255
    if tags.get(PLANAR_CONFIGURATION) == _IN_PLANES and image.tile[0][0] == "raw":  # taken for 8 bits
        raise DepthError(f"the samples of {bits} bits lie in planes")
    for tag in _MAXIMA:
        maximum = float(np.max(tags.get(tag, 0), initial=0))
        if maximum in _ALL_ONES:  # any other value is what the largest sample happens to be
            return int(maximum)
    if image.mode == "F":
        return 1
    return None if bits > 16 else 2 ** (bits - (_SIGNED in tags.get(SAMPLEFORMAT, ()))) - 1


def _unscaled(image: PpmImageFile) -> int | None:
    """Let the samples of a PGM or PPM be read as they are, not scaled in Python; gives their maximum."""
    name, box, offset, arguments = image.tile[0]
    if name != "ppm" or not isinstance(arguments, tuple):
        return None
    raw_mode, maximum = arguments
    if maximum > 255:
        raw_mode = "RGB;16B" if raw_mode == "RGB" else "I;16B"
    image.tile[0] = type(image.tile[0])("raw", box, offset, raw_mode)
    return maximum


def _significant_bits(image: PngImageFile) -> int:
    """What sBIT says of the first samples of a PNG, 0 where there is none."""
    file = image.fp
    assert file is not None
    place = file.tell()
    file.seek(8)
    bits = 0
    while (head := file.read(8))[4:] not in (b"IDAT", b""):
        length, kind = struct.unpack(">I4s", head)
        if kind == b"sBIT":
            bits = file.read(1)[0]
            break
        file.seek(length + 4, 1)
    file.seek(place)
    return bits if 8 <= bits < 16 else 0


def _is_unscaled(samples: Samples, bits: int) -> bool:
    """Whether samples of 16 bits hold numbers of fewer bits, not scaled up as the PNG standard wants it.

    Scaled ones are large, or end in zeros: sections 12.4 and 13.12.
    """
    values = samples[..., :3] if samples.ndim > 2 else samples  # without alpha
    return int(values.max()) < 2**bits and bool((values & (2 ** (16 - bits) - 1)).any())


def _raw_mode(image: Image.Image) -> str:
    tiles = image.tile if isinstance(image, ImageFile) else []
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _samples(image: Image.Image, is_colour: bool) -> Samples:
    """Numbers (H, W), or (H, W, 3 or 4) of 16 bits."""
    lower = _loaded(_in_other_order(image)) if is_colour and isinstance(image, ImageFile) else None
    upper = _loaded(image)
    return upper if lower is None else upper.astype(np.uint16) << 8 | lower


def _loaded(image: Image.Image) -> Samples:
    image.load()  # after which a TIFF may lie otherwise
    return np.asarray(image)


def _in_other_order(image: ImageFile) -> ImageFile:
    file = image.fp
    assert file is not None
    place = file.tell()
    file.seek(0)
    other = Image.open(BytesIO(file.read()), formats=[image.format or ""])
    file.seek(place)
    raw_mode = _raw_mode(image)
    for number, (name, box, offset, arguments) in enumerate(image.tile):
        changed = (
            (_OTHER_ORDER[raw_mode], *arguments[1:])
            if isinstance(arguments, tuple)
            else _OTHER_ORDER[raw_mode]
        )
        other.tile[number] = type(image.tile[number])(name, box, offset, changed)
    return other


def _from_numbers(samples: Samples, white: int) -> Samples:
    """Scaled from 0..white to 0..255."""
    least, most = int(samples.min()), int(samples.max())
    if least < 0 or most > white:
        wrong = least if least < 0 else most
        raise DepthError(f"a sample is {wrong}, with {white.bit_length()} bits they are 0 to {white}")
    table = np.rint(np.arange(white + 1) / (white / 255)).astype(np.uint8)
    return _in_bands(samples, table.take)


def _from_floats(samples: Samples, white: int) -> Samples:
    least, most = float(samples.min()), float(samples.max())
    slack = white * _SLACK
    if not (-slack <= least and most <= white + slack):
        wrong = most if -slack <= least else least
        raise DepthError(f"a sample is {wrong:g}, floats are 0 to {white}")
    return _in_bands(samples, lambda band: np.rint((band * np.float32(255 / white)).clip(0, 255)))


def _in_bands(samples: Samples, scaled: Callable[[Samples], Samples]) -> Samples:
    """Scaled some rows at a time: all at once would take several times their memory."""
    eight = np.empty(samples.shape, np.uint8)
    step = max(1, BAND_SAMPLES // samples[0].size)
    for top in range(0, len(samples), step):
        eight[top : top + step] = scaled(samples[top : top + step])
    return eight
