"""What the header of a picture announces."""

import math
import struct
from collections.abc import Sequence

from service.images.formats import SIGNATURES
from service.images.limits import FILL

STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the segments that tell a JPEG's size
SEGMENTS = 64  # that are looked at, as many bytes between them


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
