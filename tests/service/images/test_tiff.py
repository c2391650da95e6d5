"""TIFFs that announce more than a picture needs are refused before anything of them is unpacked."""

import struct
import zlib

import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from service.errors import Kind, Problem
from service.images.decode import decode, open_picture
from service.images.limits import START_OF_SCAN
from service.images.tiff import ENTRIES, NUMBERS, TILES, check_tiff
from tests.service.conftest import encoded

LIMIT = 100_000_000
Tags = dict[int, tuple[int, int, int]]
"""Type, count, value or place, by tag."""

GREY: Tags = {
    256: (4, 1, 20),
    257: (4, 1, 20),
    258: (3, 1, 8),
    259: (3, 1, 1),
    262: (3, 1, 1),
    277: (3, 1, 1),
}


def directory(tags: Tags, order: str, word: str = "I") -> bytes:
    entries = [struct.pack(f"{order}HH2{word}", tag, *entry) for tag, entry in sorted(tags.items())]
    if order == ">" and word == "I":  # short numbers are at the left of their place
        entries = [
            entry if tags[tag][0] != 3 else entry[:8] + struct.pack(">HH", tags[tag][2], 0)
            for tag, entry in zip(sorted(tags), entries, strict=True)
        ]
    return struct.pack(order + ("H" if word == "I" else "Q"), len(tags)) + b"".join(entries) + bytes(8)


def tiff(tags: Tags, pixels: bytes, *, order: str = "<", sub: Tags | None = None) -> bytes:
    """The directory after the pixels, which begin at 8, and after it the one that it may name."""
    at = 8 + len(pixels)
    size = len(directory({**tags, 34665: (4, 1, 0)}, order))
    if sub is not None:
        tags = {**tags, 34665: (4, 1, at + size)}
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    return head + pixels + directory(tags, order).ljust(size, b"\0") + directory(sub or {}, order)


def refused(data: bytes) -> str:
    with pytest.raises(Problem) as caught:
        decode(data, LIMIT)
    assert caught.value.kind is Kind.TOO_LARGE
    return caught.value.detail


@pytest.mark.parametrize("order", ["<", ">"])
def test_very_many_numbers_are_refused_wherever_they_are(order: str) -> None:
    tags: Tags = {**GREY, 273: (4, 1, 8), 279: (4, 1, 400)}
    assert decode(tiff(tags, bytes(400), order=order), LIMIT).size == (20, 20)
    assert f"{TILES + 1} numbers under tag 273" in refused(
        tiff({**tags, 273: (4, TILES + 1, 8)}, bytes(400), order=order)
    )
    many = {700: (6, NUMBERS + 1, 8)}
    assert f"{NUMBERS + 1} numbers under tag 700" in refused(tiff({**tags, **many}, bytes(400), order=order))
    assert "under tag 700" in refused(tiff(tags, bytes(400), order=order, sub=many))
    check_tiff(tiff(tags, bytes(400), order=order, sub={34675: (7, 2**24, 8)}))  # bytes cost nothing


def test_a_large_file_may_not_have_a_million_entries() -> None:
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16)
    check_tiff(head + directory({700: (6, NUMBERS, 8)}, "<", "Q"))
    with pytest.raises(Problem, match="under tag 700"):
        check_tiff(head + directory({700: (6, NUMBERS + 1, 8)}, "<", "Q"))
    with pytest.raises(Problem, match=f"{ENTRIES + 1} entries"):
        check_tiff(head + struct.pack("<Q", ENTRIES + 1))


def test_directories_are_named_once() -> None:
    entry = struct.pack("<HHII", 34665, 4, 1, 8)
    check_tiff(b"II*\0" + struct.pack("<IH", 8, 3) + 3 * entry)
    with pytest.raises(Problem, match="names 4 directories"):
        check_tiff(b"II*\0" + struct.pack("<IH", 8, 4) + 4 * entry)


def test_what_is_cut_off_is_left_to_pillow() -> None:
    whole = encoded(Image.new("RGB", (20, 20)), "tiff")
    for size in range(len(whole)):
        check_tiff(whole[:size])


def test_strips_that_share_their_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = zlib.compress(bytes(20)) + bytes(1000)
    places = struct.pack("<20I", *[8] * 20) + struct.pack("<20I", *[len(row)] * 20)
    tags: Tags = {
        **GREY,
        259: (3, 1, 8),
        273: (4, 20, 8 + len(row)),
        278: (3, 1, 1),
        279: (4, 20, 88 + len(row)),
    }
    data = tiff(tags, row + places)
    assert decode(data, LIMIT).size == (20, 20)
    monkeypatch.setattr("service.images.tiff.SHARED_BYTES", 20 * len(row) - 1)
    assert f"{20 * len(row)} bytes" in refused(data)


def test_a_tiff_that_lies_on_its_side_by_xmp_has_the_size_of_its_pixels() -> None:
    xmp = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    data = encoded(Image.new("RGB", (40, 20)), "tiff", tiffinfo={700: xmp})
    opened = open_picture(data, InputSpec(height=28, width=28), LIMIT)
    assert opened.size == opened.image.size


def test_each_strip_of_a_tiff_is_a_jpeg_of_its_own() -> None:
    """Fifty strips have fifty scans, which together go over all pixels once."""
    data = encoded(Image.new("RGB", (16, 400)), "tiff", compression="jpeg", strip_size=16 * 8 * 3)
    assert data.count(START_OF_SCAN) == 50
    assert decode(data, 16 * 400).size == (16, 400)
    length = struct.pack("<HH", 279, 3)
    with pytest.raises(Problem, match="told in 50 scans"):  # without lengths each strip may have them all
        decode(data.replace(length, struct.pack("<HH", 60279, 3)), 16 * 400)


def test_scans_that_strips_share_count_for_each() -> None:
    strip = encoded(Image.new("L", (16, 8)), "jpeg")
    strip = strip[:-2] + strip[strip.index(START_OF_SCAN) : -2] * 49 + strip[-2:]
    places = struct.pack("<4I", *[8] * 4) + struct.pack("<4I", *[len(strip)] * 4)
    at = 8 + len(strip)
    tags = {**GREY, 256: (3, 1, 16), 257: (3, 1, 32), 259: (3, 1, 7), 278: (3, 1, 8)}
    tags |= {273: (4, 4, at), 279: (4, 4, at + 16)}
    with pytest.raises(Problem, match="told in 200 scans"):
        decode(tiff(tags, strip + places), 16 * 32)


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4", "tiff_raw_16"])
def test_a_fax_is_not_read(compression: str) -> None:
    """Sixty thousand broken rows would be as many lines of the service's log."""
    with pytest.raises(Problem, match="fax") as caught:
        decode(encoded(Image.new("1", (20, 20)), "tiff", compression=compression), LIMIT)
    assert caught.value.kind is Kind.UNDECODABLE_PICTURE
