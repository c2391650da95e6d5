"""Pictures as bytes, and the problem of those that are refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import Kind, Problem
from service.images.decode import decode

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
