"""Samples of more than 8 bits are as bright as their file, or bit_depth, says; else they are refused."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.contract.depth import DepthError
from export.contract.manifest import InputSpec
from export.contract.preprocess import to_rgb

BITS, PHOTOMETRIC, SAMPLES, PLANES, SAMPLE_FORMAT = 258, 262, 277, 284, 339
MAXIMUM, EXTRA_SAMPLES, SIGNED_MAXIMUM = 281, 338, 341
UNSPECIFIED, PREMULTIPLIED, ALPHA = 0, 1, 2  # what extra samples are
CMYK = {PHOTOMETRIC: 5}
SIGNED, FLOAT = 2, 3
RAMP = np.array([[0, 1024, 2048, 4095]], np.uint16)
RAMP_8_BITS = [0, 64, 128, 255]


def tiff(samples: NDArray[np.generic], bits: int, tags: dict[int, int] | None = None) -> bytes:
    """Of one strip, with samples (H, W), (H, W, 3) or (H, W, 4) as they lie in memory."""
    data = samples.tobytes()
    height, width = samples.shape[:2]
    count = samples[0, 0].size
    entries = {256: width, 257: height, BITS: bits, 259: 1, PHOTOMETRIC: 1 if count == 1 else 2, 273: 8}
    entries |= {SAMPLES: count, 278: height, 279: len(data)} | (tags or {})
    fields = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items())]
    directory = struct.pack("<H", len(fields)) + b"".join(fields) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def palette_of_8_bits() -> bytes:
    """A TIFF whose colours are told in 8 bits, as some programs do, instead of 16."""
    image = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    image.putpalette([value for value in range(256) for _ in range(3)])
    file = io.BytesIO()
    image.save(file, "TIFF")
    wide, narrow = (struct.pack("<768H", *[value << shift for value in range(256)] * 3) for shift in (8, 0))
    assert wide in file.getvalue()
    return file.getvalue().replace(wide, narrow)


def packed_12_bits(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    bits = "".join(f"{sample:012b}" for sample in samples.ravel())
    return np.array([[int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]], np.uint8)


def png(samples: NDArray[np.integer[Any]], significant: int | None = None) -> bytes:
    """A PNG of 16 bits: grey (H, W), with alpha (H, W, 2), colour (H, W, 3), with alpha (H, W, 4)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = samples.shape[:2]
    count = samples[0, 0].size
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[count], 0, 0, 0)
    told = chunk(b"sBIT", bytes([significant] * count)) if significant else b""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = [chunk(b"IHDR", head), told, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def transparent(data: bytes, samples: int = 1) -> bytes:
    """A PNG, black where it is transparent."""
    part = b"tRNS" + bytes(2 * samples)
    return data[:33] + struct.pack(">I", 2 * samples) + part + struct.pack(">I", zlib.crc32(part)) + data[33:]


def pnm(samples: NDArray[np.uint16], maximum: int) -> bytes:
    height, width = samples.shape[:2]
    magic = b"P5" if samples.ndim == 2 else b"P6"
    return magic + f" {width} {height} {maximum}\n".encode() + samples.astype(">u2").tobytes()


def colours(samples: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.stack([samples, samples[:, ::-1], samples], axis=-1)


def with_fourth(samples: NDArray[np.uint16], fourth: int) -> NDArray[np.uint16]:
    """(H, W, 4): colours, then alpha or black."""
    return np.concatenate([colours(samples), np.full((*samples.shape, 1), fourth, np.uint16)], axis=-1)


def read(data: bytes, bit_depth: int | None = None) -> list[int]:
    """The red samples of the first row."""
    return np.asarray(to_rgb(Image.open(io.BytesIO(data)), bit_depth))[0, :, 0].tolist()


FULL = np.array([[0, 257, 32896, 65535]], np.uint16)
FLOATS = np.array([[0, 0.25, 0.5, 1]], np.float32)
TOLD = {
    "TIFF of 12 bits": (lambda: tiff(packed_12_bits(RAMP), 12, {256: 4}), RAMP_8_BITS),
    "TIFF, MaxSampleValue": (lambda: tiff(RAMP, 16, {MAXIMUM: 4095}), RAMP_8_BITS),
    "TIFF, SMaxSampleValue": (lambda: tiff(RAMP, 16, {SIGNED_MAXIMUM: 4095}), RAMP_8_BITS),
    "TIFF, the largest sample": (lambda: tiff(RAMP, 16, {MAXIMUM: 4094}), [0, 4, 8, 16]),
    "TIFF of 16 bits": (lambda: tiff(FULL, 16), [0, 1, 128, 255]),
    "TIFF of 16 bits, signed": (lambda: tiff(FULL // 2, 16, {SAMPLE_FORMAT: SIGNED}), [0, 1, 128, 255]),
    "TIFF of 32 bits, maximum": (lambda: tiff(RAMP.astype(np.uint32), 32, {MAXIMUM: 4095}), RAMP_8_BITS),
    "TIFF of floats": (lambda: tiff(FLOATS, 32, {SAMPLE_FORMAT: FLOAT}), [0, 64, 128, 255]),
    "TIFF, alpha": (lambda: tiff(with_fourth(FULL, 65535), 16, {EXTRA_SAMPLES: ALPHA}), [0, 1, 128, 255]),
    "TIFF, premultiplied alpha": (
        lambda: tiff(with_fourth(FULL, 65535), 16, {EXTRA_SAMPLES: PREMULTIPLIED}),
        [0, 1, 128, 255],
    ),
    "TIFF of grey, premultiplied alpha": (
        lambda: tiff(
            np.array([[[0, 255], [64, 255]]], np.uint8), 8, {EXTRA_SAMPLES: PREMULTIPLIED, PHOTOMETRIC: 1}
        ),
        [0, 64],
    ),
    "TIFF, a fourth sample": (
        lambda: tiff(with_fourth(FULL, 0), 16, {EXTRA_SAMPLES: UNSPECIFIED}),
        [0, 1, 128, 255],
    ),
    "TIFF, alpha, maximum": (
        lambda: tiff(with_fourth(RAMP, 4095), 16, {EXTRA_SAMPLES: ALPHA, MAXIMUM: 4095}),
        RAMP_8_BITS,
    ),
    "TIFF, CMYK": (lambda: tiff(with_fourth(FULL, 0), 16, CMYK), [255, 254, 127, 0]),
    "PNG, alpha, sBIT": (lambda: png(with_fourth(RAMP, 4095), 12), RAMP_8_BITS),
    "PNG, alpha, sBIT, scaled": (
        lambda: png(with_fourth((RAMP << 4 | RAMP >> 8).astype(np.uint16), 65535), 12),
        RAMP_8_BITS,
    ),
    "TIFF, zero is white": (lambda: tiff(RAMP, 16, {MAXIMUM: 4095, PHOTOMETRIC: 0}), [255, 191, 127, 0]),
    "PNG, sBIT": (lambda: png(RAMP, 12), RAMP_8_BITS),
    "PNG, sBIT, scaled": (lambda: png(RAMP << 4 | RAMP >> 8, 12), RAMP_8_BITS),
    "PNG, sBIT, shifted": (lambda: png(RAMP << 4, 12), RAMP_8_BITS),
    "PNG, sBIT, dark": (lambda: png(np.array([[0, 16, 32, 2048]], np.uint16), 12), [0, 0, 0, 8]),
    "PNG of colours, sBIT": (lambda: png(colours(RAMP), 12), RAMP_8_BITS),
    "PNG of colours": (lambda: png(colours(FULL)), [0, 1, 128, 255]),
    "PGM": (lambda: pnm(RAMP, 4095), RAMP_8_BITS),
    "PGM of 16 bits": (lambda: pnm(FULL, 65535), [0, 1, 128, 255]),
    "PPM": (lambda: pnm(colours(RAMP), 4095), RAMP_8_BITS),
    "PGM of 7 bits": (lambda: b"P5 4 1 100\n" + bytes([0, 25, 50, 100]), [0, 64, 128, 255]),
    "PPM of 7 bits": (lambda: b"P6 2 1 100\n" + bytes([0, 0, 0, 100, 50, 25]), [0, 255]),
    "PFM": (lambda: b"Pf 4 1 -1.0\n" + FLOATS.tobytes(), [0, 64, 128, 255]),
}


@pytest.mark.parametrize("kind", TOLD)
def test_a_file_tells_which_sample_is_white(kind: str) -> None:
    make, expected = TOLD[kind]
    assert read(make()) == expected


UNTOLD = {
    "PNG": lambda: png(RAMP),
    "PNG, wrong sBIT": lambda: png(RAMP, 14),
    "PNG of colours": lambda: png(colours(RAMP)),
    "TIFF": lambda: tiff(RAMP, 16),
    "TIFF of 32 bits": lambda: tiff(RAMP.astype(np.uint32), 32),
    "TIFF of colours": lambda: tiff(colours(RAMP), 16),
    "TIFF of floats": lambda: tiff(RAMP.astype(np.float32), 32, {SAMPLE_FORMAT: FLOAT}),
    "TIFF, alpha": lambda: tiff(with_fourth(RAMP, 4095), 16, {EXTRA_SAMPLES: ALPHA}),
    "PGM": lambda: pnm(RAMP, 65535),
    "PPM": lambda: pnm(colours(RAMP), 65535),
}


@pytest.mark.parametrize("kind", UNTOLD)
def test_bit_depth_tells_it_where_the_file_does_not(kind: str) -> None:
    assert read(UNTOLD[kind](), 12) == RAMP_8_BITS


@pytest.mark.parametrize("bit_depth", [10, 12, 16])
def test_bit_depth_is_not_of_pictures_of_8_bits(bit_depth: int) -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 100, 255]], np.uint8)).save(file, "png")
    assert read(file.getvalue(), bit_depth) == [0, 100, 255]


FLOATS_OF_255 = FLOATS * 255
WITH_NAN = np.array([[0, np.nan]], np.float32)
REFUSED = {
    "TIFF of 32 bits": (lambda: tiff(RAMP.astype(np.uint32), 32), None, "32 bits; bit_depth"),
    "TIFF of 8 bits, signed": (
        lambda: tiff(RAMP.astype(np.int8), 8, {SAMPLE_FORMAT: SIGNED}),
        None,
        "signed, of 8 bits",
    ),
    "TIFF of colours of 8 bits": (palette_of_8_bits, None, "the palette have 8 bits"),
    "TIFF of negative numbers": (
        lambda: tiff(np.array([[-5, 5]], np.int16), 16, {SAMPLE_FORMAT: SIGNED}),
        None,
        "-5.*0 to 32767",
    ),
    "TIFF of other floats": (
        lambda: tiff(FLOATS_OF_255, 32, {SAMPLE_FORMAT: FLOAT}),
        None,
        "is 255, floats are 0 to 1",
    ),
    "TIFF of no numbers": (lambda: tiff(WITH_NAN, 32, {SAMPLE_FORMAT: FLOAT}), None, "nan"),
    "TIFF in planes": (lambda: tiff(colours(FULL[:, :3]), 16, {PLANES: 2, 278: 1}), None, "in planes"),
    "PNG with more bits": (lambda: png(FULL), 12, "65535, with 12 bits they are 0 to 4095"),
    "PNG, alpha, sBIT of colours": (lambda: png(with_fourth(RAMP, 65535), 12), None, "65535, with 12 bits"),
    "PNG, grey and alpha, sBIT": (
        lambda: png(with_fourth(RAMP, 4095)[..., 2:], 12),
        None,
        "12 bits in 16 are not read with alpha",
    ),
    "TIFF, premultiplied alpha, maximum": (
        lambda: tiff(with_fourth(RAMP, 4095), 16, {EXTRA_SAMPLES: PREMULTIPLIED, MAXIMUM: 4095}),
        None,
        "12 bits in 16 are not read with alpha",
    ),
    "TIFF, CMYK, bit_depth": (lambda: tiff(with_fourth(RAMP, 0), 16, CMYK), 12, "12 bits in 16 .* CMYK"),
    "PNG, a transparent colour": (lambda: transparent(png(FULL)), None, "tRNS"),
    "PNG of colours, a transparent one": (lambda: transparent(png(colours(FULL)), 3), None, "tRNS"),
    "PGM beyond its maximum": (lambda: pnm(FULL, 4095), None, "65535, with 12 bits"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_nobody_can_tell_is_refused_by_name(kind: str) -> None:
    make, bit_depth, words = REFUSED[kind]
    with pytest.raises(DepthError, match=words):
        read(make(), bit_depth)


def test_a_bmp_whose_fourth_byte_is_unused_is_opaque() -> None:
    head = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 0, 0, 70, 56, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    red = struct.pack("<I", 0xFF0000)
    assert read(head + masks + 2 * red) == [255, 255]
    assert np.asarray(to_rgb(Image.open(io.BytesIO(head + masks + 2 * red))))[0, 0].tolist() == [255, 0, 0]
    half = head + masks + red + struct.pack("<I", 0xFFFF0000)
    assert np.asarray(to_rgb(Image.open(io.BytesIO(half))))[0].tolist() == [[255, 255, 255], [255, 0, 0]]


def test_an_input_without_a_bit_depth_is_read_as_before() -> None:
    assert InputSpec.model_validate({"height": 28, "width": 28}).bit_depth is None
    assert InputSpec(height=28, width=28, bit_depth=12).bit_depth == 12
