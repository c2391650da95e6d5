"""Broken uploads: flipped bits, truncations, random bytes behind valid headers, bombs."""

import struct
import zlib
from collections.abc import Iterator
from random import Random

from PIL import Image

from service.images.formats import SIGNATURES
from tests.service.conftest import encoded

FORMATS: dict[str, dict[str, object]] = {
    "PNG": {},
    "JPEG": {"progressive": True},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {},
    "GIF": {},
}


def seeds() -> list[bytes]:
    """A small picture in every format."""
    picture = Image.effect_noise((40, 30), 60).convert("RGB")
    return [encoded(picture, name, **options) for name, options in FORMATS.items()]


def png_bomb(width: int, height: int, claimed: int) -> bytes:
    """A PNG that claims to be large, with a stream that inflates to `claimed` zero bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(claimed), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def uploads(count: int, seed: int) -> Iterator[bytes]:
    """So many broken uploads, the same for the same seed."""
    random = Random(seed)
    pictures = seeds()
    bombs = [
        png_bomb(60_000, 60_000, 1000),
        png_bomb(8000, 8000, 100_000),
        png_bomb(10, 10, 10_000_000),
        encoded(
            Image.new("RGB", (8, 8)), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), 9)] * 200
        ),
    ]
    for number in range(count):
        picture = random.choice(pictures)
        kind = number % 4
        if number % 200 == 199:
            yield random.choice(bombs)
        elif kind == 0:
            yield flipped(picture, random)
        elif kind == 1:
            yield picture[: random.randrange(len(picture))]
        elif kind == 2:
            head = random.choice([one for some in SIGNATURES.values() for one in some])
            yield head + random.randbytes(random.randrange(400))
        else:
            kept = random.randrange(len(picture))
            yield picture[:kept] + random.randbytes(len(picture) - kept)


def flipped(picture: bytes, random: Random) -> bytes:
    """With one to eight bits turned over."""
    data = bytearray(picture)
    for _ in range(random.randint(1, 8)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)
