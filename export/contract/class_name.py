"""When two spellings are one class name."""

import re
from unicodedata import normalize

_SEPARATORS = re.compile(r"[\s_\-\u00ad\u2010-\u2015\u2212\u200b\u2060\ufeff]+")


def canonical_name(name: str) -> str:
    """The form in which class names are compared, encoded and kept: NFC, lower case, single spaces.

    Whitespace, underscores, dashes and what shows nothing between words count as spaces, so that a folder
    `metal_disc` is the name `Metal disc`. A name of dashes alone keeps them.
    """
    words = _SEPARATORS.sub(" ", normalize("NFC", name)).strip() or " ".join(name.split())
    return normalize("NFC", words.lower())
