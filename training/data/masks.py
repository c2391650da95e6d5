"""Which pixels a mask file marks as anomalous.

Legend: H W pixels.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from export.contract.depth import lower_bytes
from export.contract.preprocess import orientation

Mask = NDArray[np.bool_]

LOSSY_FORMATS = frozenset({"AVIF", "JPEG", "JPEG2000", "MPO", "WEBP"})


def marked(image: Image.Image) -> Mask:
    """Anomalous pixels (H, W) of an upright mask: all that is not black, or not transparent.

    Where transparency varies, transparent pixels are not marked, whatever their colour; the others all are if
    they have the same one. Any number marks, as masks may hold one for each kind of defect, but in a lossy
    file what Otsu's threshold parts from black. Of a file that has not been loaded.

    Raises: DepthError for samples of which a part cannot be read.
    """
    is_lossy = image.format in LOSSY_FORMATS or image.info.get("compression") == "jpeg"
    lower = lower_bytes(image)
    image.load()  # a PNG may tell its orientation at its end
    if lower is not None:  # small numbers mark, too
        image.paste(Image.fromarray(np.maximum(np.asarray(image), lower > 0)))
    if orientation(image) in range(2, 9):
        image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":  # 16 or 32 bits, which a conversion would cut off
        return np.asarray(image) != 0
    pixels = np.asarray(image.convert("RGBA"))
    strength, is_visible = pixels[..., :3].max(-1), pixels[..., 3] > 0
    is_marked = strength > (otsu(strength) if is_lossy else 0)
    if is_visible.all() or not is_visible.any():
        return is_marked
    shown = pixels[is_visible]
    return is_visible if (shown[:, :3] == shown[0, :3]).all() else is_visible & is_marked


def otsu(values: NDArray[np.uint8]) -> int:
    """The value that parts uint8 values into two classes, up to it and above it, which differ most."""
    counts = np.bincount(values.ravel(), minlength=256)
    below, total = counts.cumsum(), values.size
    mass = (counts * np.arange(256)).cumsum()
    # The variance between both classes; 0 where one of them is empty.
    between = (mass[-1] * below - mass * total) ** 2.0 / np.maximum(below * (total - below), 1)
    return int(between.argmax())
