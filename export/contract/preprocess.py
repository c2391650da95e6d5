"""From any picture to the uint8 pixels of the model: one pipeline for training and serving."""

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from export.contract.depth import to_8_bits
from export.contract.manifest import InputSpec

Pixels = npt.NDArray[np.uint8]

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE = (255, 255, 255, 255)

EXIF_BYTES = 2**20

BAND_PIXELS = 2**18  # that are laid on white at once


def to_rgb(image: Image.Image, bit_depth: int | None = None) -> Image.Image:
    """The first frame of a file that was opened, turned as its EXIF orientation says, as 8-bit RGB.

    Transparency is laid on white. bit_depth, Raises: as `to_8_bits`.
    """
    if image.tell():
        image.seek(0)
    shallow = to_8_bits(image, bit_depth)
    turn = _TURNS.get(orientation(image))
    shallow = shallow if turn is None else shallow.transpose(turn)
    if shallow.mode == "La":  # premultiplied, which Pillow turns into this alone
        shallow = shallow.convert("LA")
    if shallow.has_transparency_data and not _is_blank_bmp(image):
        return _on_white(shallow.convert("RGBA")).convert("RGB")
    return shallow if shallow.mode == "RGB" else shallow.convert("RGB")  # which would make a copy


def _is_blank_bmp(image: Image.Image) -> bool:
    """Whether a BMP would be transparent everywhere: its fourth byte is unused then."""
    return image.format == "BMP" and image.getchannel("A").getextrema() == (0, 0)


def _on_white(image: Image.Image) -> Image.Image:
    """In bands of rows: no other thread goes on while Pillow composes one."""
    canvas = Image.new("RGBA", image.size, _WHITE)
    step = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, step):
        canvas.alpha_composite(image, (0, top), (0, top, image.width, min(top + step, image.height)))
    return canvas


def orientation(image: Image.Image) -> int:
    """How EXIF says that a picture lies, 1 to 8; 1 where it says nothing or cannot be read.

    Pillow's own function to turn a picture fails where EXIF is damaged. More than EXIF_BYTES are not
    read, as each number takes memory. A PNG must have been loaded.
    """
    if len(image.info.get("exif", b"")) > EXIF_BYTES:
        return 1
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever Pillow stumbles over: the pixels are as good without
        return 1


def fit(image: Image.Image, spec: InputSpec, reducing_gap: float | None = None) -> Pixels:
    """Resize an RGB picture with antialiasing and keep its centre: uint8 (H, W, 3) at model size.

    The whole picture is resized to the model size / crop, without keeping its aspect ratio. reducing_gap: as
    Pillow's; the picture is first reduced to so many times that size at least.
    """
    left, top, width, height = _centre_crop(spec)
    resized = image.resize((width, height), _RESAMPLING[spec.resize], reducing_gap=reducing_gap)
    cropped = resized.crop((left, top, left + spec.width, top + spec.height))
    return np.array(cropped, np.uint8)


def visible_box(size: tuple[int, int], spec: InputSpec) -> tuple[float, float, float, float]:
    """What `fit` keeps of a picture of `size` (width, height): left, top, right, bottom in its pixels."""
    left, top, width, height = _centre_crop(spec)
    right, bottom = left + spec.width, top + spec.height
    # Multiplying first keeps whole numbers whole: without a crop the box is exactly the picture.
    x_edges = (left * size[0] / width, right * size[0] / width)
    y_edges = (top * size[1] / height, bottom * size[1] / height)
    return x_edges[0], y_edges[0], x_edges[1], y_edges[1]


def _centre_crop(spec: InputSpec) -> tuple[int, int, int, int]:
    width, height = round(spec.width / spec.crop), round(spec.height / spec.crop)
    return (width - spec.width) // 2, (height - spec.height) // 2, width, height
