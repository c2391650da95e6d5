"""Which types of picture are read, told by their first bytes."""

from PIL import features

SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "WEBP": (b"RIFF",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "PPM": (b"P4", b"P5", b"P6", b"Pf"),  # binary ones; Pillow reads numbers in text one by one
}
if features.check("avif"):
    SIGNATURES["AVIF"] = (b"ftypavif", b"ftypavis", b"ftypmif1", b"ftypmsf1")  # after the length of the box
FORMATS = tuple(SIGNATURES)


def format_of(data: bytes) -> str | None:
    """The type of picture that some bytes say they are, one of FORMATS."""
    for name, signatures in SIGNATURES.items():
        if data.startswith(signatures, 4 if name == "AVIF" else 0):
            return name if name != "WEBP" or data[8:12] == b"WEBP" else None
    return None
