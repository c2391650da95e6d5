"""How many frames an AVIF has, and how large, whatever its header announces.

ISO 14496-12 (boxes), 23008-12 (items) and the AV1 bitstream specification.
"""

import struct
from collections.abc import Callable, Iterator

from service.errors import Kind, Problem

MOST_STEPS = 2**16  # boxes, or units of the data
HEADER_BYTES = 512  # of a sequence, at most
SEQUENCE_HEADER, FRAME_HEADER, FRAME = 1, 3, 6  # types of AV1's units (OBU, section 6.2.2)
HIGHEST_LEVEL_WITHOUT_TIER = 7

Box = tuple[bytes, int, int]
Extents = list[tuple[int, int]]


def frames_of(data: bytes) -> tuple[int, int, int]:
    """Number of frames of all pictures in an AVIF, hidden ones and tiles included; width and height at most.

    Raises: Problem (422) where it is cut off, and for a film, whose frames lie elsewhere; (413) for more than
    MOST_STEPS, or for items that share most of their bytes.
    """
    try:
        return _frames_in(list(_coded(data)))
    except (IndexError, struct.error) as error:
        raise Problem(Kind.UNDECODABLE_PICTURE, "the AVIF is cut off") from error


def _frames_in(parts: list[bytes]) -> tuple[int, int, int]:
    frames = width = height = 0
    for step, (kind, header) in enumerate(unit for part in parts for unit in _units(part)):
        if step == MOST_STEPS:
            raise Problem(Kind.TOO_LARGE, f"the AVIF has {MOST_STEPS} parts, no more are looked at")
        if kind == SEQUENCE_HEADER:
            size = _sequence_size(header)
            width, height = max(width, size[0]), max(height, size[1])
        frames += kind in (FRAME_HEADER, FRAME)
    return frames, width, height


def _coded(data: bytes) -> Iterator[bytes]:
    """The bytes of each item that is AV1."""
    total = 0
    for name, start, stop in _boxes(data, 0, len(data)):
        if name == b"moov":
            raise Problem(Kind.UNDECODABLE_PICTURE, "the AVIF is a film, only single pictures are read")
        for extents in _extents(data, list(_boxes(data, start + 4, stop))) if name == b"meta" else ():
            ends = [(at, min(at + length if length else len(data), len(data))) for at, length in extents]
            if (total := total + sum(max(0, end - at) for at, end in ends)) > 2 * len(data):
                raise Problem(Kind.TOO_LARGE, f"the AVIF has {len(data)} bytes, its items share more")
            yield b"".join(data[at:end] for at, end in ends)


def _extents(data: bytes, boxes: list[Box]) -> Iterator[Extents]:
    coded = {item for name, *place in boxes if name == b"iinf" for item in _coded_items(data, *place)}
    inside = next((start for name, start, _ in boxes if name == b"idat"), 0)
    for name, start, _ in boxes:
        if name == b"iloc":
            yield from (extents for item, extents in _locations(data, start, inside) if item in coded)


def _boxes(data: bytes, at: int, stop: int) -> Iterator[Box]:
    """Name, start and stop of what is in each box."""
    for _ in range(MOST_STEPS):
        if at + 8 > stop:
            return
        length, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        end = at + length if length else stop
        yield name, at + head, min(end, stop)
        at = max(end, at + head)
    raise Problem(Kind.TOO_LARGE, f"the AVIF has {MOST_STEPS} boxes, no more are looked at")


def _coded_items(data: bytes, start: int, stop: int) -> Iterator[int]:
    """The numbers of the items that are AV1."""
    for name, at, _ in _boxes(data, start + (8 if data[start] else 6), stop):
        if name == b"infe":
            width = 4 if data[at] > 2 else 2
            if data[at + 6 + width : at + 10 + width] == b"av01":
                yield int.from_bytes(data[at + 4 : at + 4 + width], "big")


def _locations(data: bytes, at: int, inside: int) -> Iterator[tuple[int, Extents]]:
    """The number of each item, and (place, bytes) of its extents, 0 bytes for all that follow."""
    version, sizes = data[at], struct.unpack_from(">H", data, at + 4)[0]
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    at += 6

    def number(count: int) -> int:
        nonlocal at
        at += count
        if at > len(data):
            raise IndexError
        return int.from_bytes(data[at - count : at], "big")

    width = 4 if version == 2 else 2
    most = MOST_STEPS  # extents, which may have no bytes
    for _ in range(number(width)):
        item = number(width)
        is_inside = version and number(2) & 15 == 1
        number(2)
        base = number(base_bytes) + (inside if is_inside else 0)
        extents: Extents = []
        count = number(2)
        if (most := most - count) < 0:
            raise Problem(Kind.TOO_LARGE, f"the AVIF has {MOST_STEPS} extents, no more are looked at")
        for _ in range(count):
            number(index_bytes if version else 0)
            extents.append((base + number(offset_bytes), number(length_bytes)))
        yield item, extents


def _units(coded: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and first bytes of each unit (AV1, section 5.3)."""
    at = 0
    while at < len(coded):
        head = coded[at]
        at += 2 if head & 4 else 1
        length = 0
        if head & 2:
            for byte in range(8):
                length |= (coded[at] & 127) << 7 * byte
                at += 1
                if coded[at - 1] < 128:
                    break
        else:
            length = len(coded) - at
        yield head >> 3 & 15, coded[at : at + HEADER_BYTES]
        at += length


def _sequence_size(header: bytes) -> tuple[int, int]:
    """The largest frame that a sequence header allows (AV1, section 5.5.1)."""
    bits, place = int.from_bytes(header, "big"), 8 * len(header)

    def take(count: int) -> int:
        nonlocal place
        place -= count
        if place < 0:
            raise IndexError
        return bits >> place & (1 << count) - 1

    take(4)  # profile, still picture
    if take(1):  # the reduced header of one
        take(5)
    else:
        _skip_timing(take)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return take(width_bits) + 1, take(height_bits) + 1


def _skip_timing(take: Callable[[int], int]) -> None:
    """Everything between the kind of a sequence and its size."""
    delay_bits = _delay_bits(take) if take(1) else 0
    has_display_delay = take(1)
    for _ in range(take(5) + 1):
        take(12)
        if take(5) > HIGHEST_LEVEL_WITHOUT_TIER:
            take(1)
        if delay_bits and take(1):
            take(2 * delay_bits + 1)
        if has_display_delay and take(1):
            take(4)


def _delay_bits(take: Callable[[int], int]) -> int:
    """The bits of a delay of the decoder; 0 where there is no model of it."""
    take(64)
    if take(1):
        zeros = 0
        while not take(1):
            zeros += 1
        take(zeros)
    if not take(1):
        return 0
    bits = take(5) + 1
    take(42)
    return bits
