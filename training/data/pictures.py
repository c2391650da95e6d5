"""Pictures and masks of a data set: where they lie, how they are read, which are held out.

Legend: n pictures, H W pixels.
"""

import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.manifest import InputSpec
from export.contract.preprocess import Pixels, fit, orientation, to_rgb, visible_box
from training.data.masks import LOSSY_FORMATS, Mask, marked
from training.data.sets.samples import DataError, Sample

logger = logging.getLogger(__name__)

CACHE_LIMIT_BYTES = 2 * 1024**3
JPEG_QUALITIES = (75, 95)  # lowest and highest that pictures are expected in
MOST_MARKED = 0.5  # of a picture; a mask that marks more is likely to be inverted


def load_picture(path: Path, spec: InputSpec, jpeg: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read a picture as the service does: uint8 (H, W, 3) at model size. Raises DataError naming the file.

    jpeg: lowest and highest quality at which half of the pictures of lossless files are compressed first.
    """
    with _opened(path) as image:
        rgb = to_rgb(image, spec.bit_depth)
        if jpeg is not None and image.format not in LOSSY_FORMATS:
            rgb = _compressed(rgb, *jpeg)
        return fit(rgb, spec)


def _compressed(rgb: Image.Image, lowest: int, highest: int) -> Image.Image:
    """Every second picture as JPEG; its pixels decide, so that equal pictures stay equal."""
    digest = hashlib.sha256(rgb.tobytes()).digest()
    if digest[0] % 2:
        return rgb
    written = io.BytesIO()
    rgb.save(written, "JPEG", quality=lowest + digest[1] % (highest - lowest + 1))
    return Image.open(written)


def load_mask(
    sample: Sample, spec: InputSpec, size: tuple[int, int] | None = None
) -> NDArray[np.bool_] | None:
    """Anomalous pixels in the part of the picture that `fit` keeps, bool (H, W); None where they are unknown.

    Several masks are united; resizing is nearest. size: (H, W) of the result, the model's by default. Masks
    that mark nothing, or most of the picture, are logged.
    Raises DataError for a mask that cannot be read or is not of the picture's size.
    """
    if sample.is_anomalous and not sample.mask_paths:
        return None
    height, width = size or (spec.height, spec.width)
    if not sample.mask_paths:
        return np.zeros((height, width), dtype=np.bool_)
    expected = upright_size(sample.path)
    union = np.logical_or.reduce([_read_mask(path, sample, expected) for path in sample.mask_paths])
    if not 0 < (share := union.mean()) <= MOST_MARKED:
        logger.warning("%s: marks %.0f %% of its picture %s", sample.mask_paths[0], 100 * share, sample.path)
    mask = Image.fromarray(union.astype(np.uint8))
    box = visible_box(mask.size, spec)
    return np.asarray(mask.resize((width, height), Image.Resampling.NEAREST, box=box)) > 0


def load_labels(path: Path, sample: Sample) -> NDArray[np.int32]:
    """One number a pixel, (H, W) of the picture's own size, as in a grey or palette picture.

    Raises DataError for a file that cannot be read, has colours, is lossy or not of the picture's size.
    """
    with _opened(path) as image:
        values, size, expected = np.asarray(image), image.size, upright_size(sample.path)
    if values.ndim != 2:
        raise DataError(f"{path}: holds {values.shape[2]} values a pixel, one is expected")
    if image.format in LOSSY_FORMATS:
        raise DataError(f"{path}: is a {image.format}, which does not keep numbers as they are")
    if size != expected:
        raise DataError(f"{path}: is {size}, its picture {sample.path} is {expected}")
    return values.astype(np.int32)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no file")  # a named pipe would keep its reader waiting
    try:
        with Image.open(path) as image:
            yield image
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a decoder raises whatever a broken file makes it stumble over
        raise DataError(f"{path}: cannot be read as a picture: {error}") from error


def _read_mask(path: Path, sample: Sample, expected: tuple[int, int]) -> Mask:
    """Bool (H, W) of the picture's own size, which is (width, height) as expected."""
    with _opened(path) as image:
        mask = marked(image)
    if mask.shape[::-1] != expected:
        raise DataError(f"{path}: mask is {mask.shape[::-1]}, its picture {sample.path} is {expected}")
    return mask


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) after the turn that EXIF orientations 5 to 8 ask for."""
    with _opened(path) as image:
        image.load()  # a PNG may tell its orientation at its end
        width, height = image.size
        return (height, width) if orientation(image) in range(5, 9) else (width, height)


def load_pixels(samples: Sequence[Sample], spec: InputSpec) -> Pixels:
    """Pictures (n, H, W, 3) at model size."""
    return np.stack([load_picture(sample.path, spec) for sample in samples])
