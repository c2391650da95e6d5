"""What the directories of a TIFF announce, looked at before all of it is unpacked (TIFF 6.0, section 2)."""

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from service.errors import Kind, Problem

TILES = 2**19  # each of which takes Pillow microseconds; 100 megapixels have 390 000 of 16 x 16
NUMBERS = 2**18  # under any other tag: of a map of colours there are three times 2**16
SHARED_BYTES = 2**26  # that strips or tiles may have at least, if some are the same
ENTRIES = 2**16 - 1  # of a directory; a file of more than 4 GB may have more

STRIPS, TILED = (273, 279), (324, 325)  # where each begins, and its bytes
STRIPS_AND_TILES = frozenset(STRIPS + TILED)
DIRECTORIES = frozenset({34665, 34853, 40965})  # of EXIF, of GPS and of interoperability
BYTES = frozenset({1, 2, 7})  # types that stay what they are
BITS_PER_SAMPLE = 258
BIG = 43  # in the third or fourth byte, where numbers have 8 bytes instead of 4


class _Entry(NamedTuple):
    tag: int
    type: int
    numbers: int
    value: bytes


def check_tiff(data: bytes) -> None:
    """Look at the first directory and at those it names.

    Raises: Problem (413) where they have more entries, tiles or numbers than a picture of any use.
    """
    with suppress(struct.error):  # cut off, of which Pillow has more to say
        order, word, first = _begin(data)
        places: list[int] = []
        for entry in _entries(data, order, word, first):
            _check(entry)
            if entry.tag in DIRECTORIES:
                places += struct.unpack_from(order + "I", entry.value)
        if len(places) > len(DIRECTORIES):
            detail = f"the picture names {len(places)} directories, the limit is {len(DIRECTORIES)}"
            raise Problem(Kind.TOO_LARGE, detail)
        for entry in (entry for place in places for entry in _entries(data, order, word, place)):
            _check(entry)


def bits_a_sample(data: bytes) -> int | None:
    """What the first directory of a TIFF tells of the first sample; None where it tells nothing."""
    with suppress(struct.error):
        order, word, first = _begin(data)
        for entry in _entries(data, order, word, first):
            if entry.tag == BITS_PER_SAMPLE:
                fits = 2 * entry.numbers <= len(entry.value)
                place = 0 if fits else struct.unpack(order + word, entry.value)[0]
                return struct.unpack_from(order + "H", entry.value if fits else data, place)[0]
    return None


def check_strips(tags: Mapping[int, Any], size: int) -> None:
    """Look at the bytes of the strips and tiles in a file of a size. Pillow has read the tags.

    Raises: Problem (413) where they share most: each might be as long as the file, and unpacked by itself.
    """
    used = sum(max(0, min(length, size - place)) for place, length in places_of_strips(tags))
    if used > max(2 * size, SHARED_BYTES):
        detail = f"the picture's strips or tiles have {used} bytes, the file has {size}"
        raise Problem(Kind.TOO_LARGE, detail)


def places_of_strips(tags: Mapping[int, Any]) -> list[tuple[int, int]]:
    """Where each strip or tile begins, and its bytes."""
    return [
        pair
        for places, lengths in (STRIPS, TILED)
        for pair in zip(tags.get(places, ()), tags.get(lengths, ()), strict=False)
    ]


def _begin(data: bytes) -> tuple[str, str, int]:
    """The order of bytes, the type of the larger numbers, and where the first directory is."""
    order = "<" if data.startswith(b"II") else ">"
    word, at = ("Q", 8) if BIG in data[2:4] else ("I", 4)
    return order, word, struct.unpack_from(order + word, data, at)[0]


def _entries(data: bytes, order: str, word: str, at: int) -> Iterator[_Entry]:
    number = order + ("Q" if word == "Q" else "H")
    (count,) = struct.unpack_from(number, data, at)
    if count > ENTRIES:
        detail = f"a directory of the picture has {count} entries, the limit is {ENTRIES}"
        raise Problem(Kind.TOO_LARGE, detail)
    entry = struct.Struct(f"{order}HH{word}{struct.calcsize(order + word)}s")
    begin = at + struct.calcsize(number)
    for place in range(begin, begin + count * entry.size, entry.size):
        yield _Entry(*entry.unpack_from(data, place))


def _check(entry: _Entry) -> None:
    most = TILES if entry.tag in STRIPS_AND_TILES else NUMBERS
    if entry.numbers > most and entry.type not in BYTES:
        detail = f"the picture has {entry.numbers} numbers under tag {entry.tag}, the limit is {most}"
        raise Problem(Kind.TOO_LARGE, detail)
