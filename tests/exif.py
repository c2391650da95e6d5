"""EXIF blocks with an orientation, and with what is none, as cameras and programs write it."""

import struct

BYTE, ASCII, SHORT, RATIONAL, SIGNED, UNDEFINED, FLOAT = 1, 2, 3, 5, 9, 7, 11  # types of a TIFF's values


def orientation_block(kind: int, count: int, value: bytes) -> bytes:
    """EXIF with nothing but an orientation of some type; value: as it is written, 4 bytes at most."""
    entry = struct.pack(">HHHI", 1, 0x0112, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0MM\0*\0\0\0\x08" + entry + bytes(4)


TURNED = orientation_block(SHORT, 1, b"\0\6")
"""As of a camera held upright: the picture is to be turned by a quarter, clockwise."""

TURNED_TWICE = orientation_block(SHORT, 2, b"\0\6\0\1")
"""Two values, of which Pillow takes the first."""

NOT_TURNED = (
    orientation_block(SHORT, 1, b"\0\0"),
    orientation_block(SHORT, 1, b"\0\x09"),
    orientation_block(SHORT, 1, b"\xff\xff"),
    orientation_block(SHORT, 0, b""),
    orientation_block(ASCII, 2, b"6"),
    orientation_block(ASCII, 4, b"top"),
    orientation_block(UNDEFINED, 1, b"\6"),
    orientation_block(SIGNED, 1, b"\xff\xff\xff\xff"),
    orientation_block(FLOAT, 1, struct.pack(">f", 6.5)),
    orientation_block(FLOAT, 1, struct.pack(">f", float("nan"))),
    orientation_block(RATIONAL, 1, b"\0\0\xff\xff"),
    orientation_block(99, 1, b"\0\6"),
    b"Exif\0\0MM\0*\0\0\0\x08\0\xff",
    b"Exif\0\0no TIFF at all",
)
