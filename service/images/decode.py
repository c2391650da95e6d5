"""Uploaded bytes to an RGB picture, refusing what is too large before any pixel is decoded."""

import math
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from export.contract.manifest import InputSpec
from export.contract.preprocess import Pixels, fit, orientation, to_rgb
from service.errors import Kind, Problem
from service.images.formats import FORMATS, SIGNATURES, format_of
from service.images.limits import Size, check_parts, pixels_to_decode
from service.images.tiff import bits_a_sample

MARGIN = 2.5  # a JPEG is decoded with at least so many times the model's pixels, in each direction
REDUCING_GAP = (
    3.0  # one that is decoded whole is then reduced to so many times; Pillow calls it as good as not
)

BLOCK = 8  # pixels that a JPEG tells together; of colours that stand for several pixels so many times more


QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture that was looked at: (width, height) upright, pixels (H, W, 3) at model size, its bytes."""

    size: tuple[int, int]
    pixels: Pixels
    data: bytes
    bit_depth: int | None

    @cached_property
    def image(self) -> Image.Image:
        """All of it as upright RGB, decoded when it is first asked for: until then it takes no memory."""
        return decode(self.data, math.inf, self.bit_depth)


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
    size, image = _decode(data, max_pixels, spec.bit_depth, enough, expected)
    is_jpeg = data.startswith(SIGNATURES["JPEG"])  # others are fitted as in training to the last bit
    return Opened(size, fit(image, spec, REDUCING_GAP if is_jpeg else None), data, spec.bit_depth)


def decode(data: bytes, max_pixels: float, bit_depth: int | None = None) -> Image.Image:
    """The first frame of a picture as upright RGB, decoded in full.

    bit_depth: as `to_rgb`. Raises: Problem (400 empty, 413 too large, 415 no picture, 422 undecodable).
    """
    return _decode(data, max_pixels, bit_depth, None, math.inf)[1]


def _decode(
    data: bytes, max_pixels: float, bit_depth: int | None, enough: Size | None, expected: float
) -> tuple[Size, Image.Image]:
    """The upright size of a picture, and the picture; a JPEG of more than `enough` pixels may be reduced."""
    name = _format(data)
    if len(data) > expected:  # a file may have a hundred thousand empty parts, which take long to go through
        raise LargePictureError
    try:
        check_parts(data, max_pixels)
        image = Image.open(BytesIO(data), formats=[name])
        size = image.size
        if pixels_to_decode(image, data, max_pixels) > expected:
            raise LargePictureError
        if enough is not None and isinstance(image, JpegImageFile):
            _reduce(image, _upright(enough, image))
        rgb = to_rgb(image, bit_depth)
        full = size if isinstance(image, JpegImageFile) else image.size  # a TIFF is turned by now
        return _upright(full, image), rgb
    except (Problem, LargePictureError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        bits = bits_a_sample(data) if name == "TIFF" else None
        told = f" or of a form that is not read, with {bits} bits a sample" if bits else ""
        detail = f"the bytes start as {name}, but the header is broken{told}"
        raise Problem(Kind.UNDECODABLE_PICTURE, detail) from error
    except Exception as error:  # a decoder raises whatever a broken file makes it stumble over
        why = str(error) or type(error).__name__
        raise Problem(Kind.UNDECODABLE_PICTURE, f"the picture cannot be decoded: {why}") from error


def _format(data: bytes) -> str:
    if not data:
        raise Problem(Kind.MALFORMED, "the picture is empty: 0 bytes")
    if (name := format_of(data)) is None:
        raise Problem(Kind.NOT_A_PICTURE, f"the bytes are none of {', '.join(FORMATS)}")
    return name


def _reduce(image: JpegImageFile, enough: Size) -> None:
    """Have a JPEG decoded in fewer pixels, but not if a block reaches beyond it: what lies there would show.

    Where colours are told more coarsely across than down they would be reduced once more, so twice is enough.
    """
    samplings = [layer[1:3] for layer in image.layer] if image.layers > 1 else [(1, 1)]
    across, down = map(max, zip(*samplings, strict=True))
    if image.width % (BLOCK * across) == image.height % (BLOCK * down) == 0:
        times = 1 if across == down else 2
        image.draft(None, (times * enough[0], times * enough[1]))


def _upright(size: Size, image: Image.Image) -> Size:
    """A size, with sides exchanged if the picture lies on one of its own."""
    return (size[1], size[0]) if orientation(image) in QUARTER_TURNS else size
