"""Grey and coloured PNG files."""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from PIL import Image
from zlib_ng import zlib_ng

from service.maps.resize import Drawn

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2  # the filter of a row


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png", compress_level=1)
    return file.getvalue()


def grey_png(levels: Iterable[Drawn], size: tuple[int, int], bits: int) -> bytes:
    """A PNG of grey, whose rows come in bands (PNG specification, sections 5 and 9).

    Every row is told as its difference to the one above: in a map, which is smooth, mostly runs of one value.
    Pillow tries five ways on each row, which takes three times as long and more bytes.
    """
    row_bytes = size[0] * bits // 8
    above = np.zeros((1, row_bytes), np.uint8)
    # Its stub leaves types out.
    packer: Any = cast("Any", zlib_ng).compressobj(1, strategy=zlib_ng.Z_RLE)
    data: list[bytes] = []
    for band in levels:
        rows = np.ndarray((len(band), row_bytes), np.uint8, np.asarray(band, f">u{bits // 8}").data)
        filtered = np.empty((len(rows), 1 + row_bytes), np.uint8)
        filtered[:, 0] = _UP
        np.subtract(rows[:1], above, out=filtered[:1, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        above = rows[-1:]
        data.append(packer.compress(filtered.data))
    data.append(packer.flush())
    header = struct.pack(">IIBBBBB", *size, bits, 0, 0, 0, 0)  # grey, no interlacing
    return _PNG_SIGNATURE + b"".join(map(_chunk, (b"IHDR", b"IDAT", b"IEND"), (header, b"".join(data), b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
