"""Names of products: one name in whatever Unicode form a file system, a keyboard or a program writes it."""

import re
from typing import Annotated
from unicodedata import normalize

from pydantic import AfterValidator


def composed(name: str) -> str:
    """The name in NFC."""
    return normalize("NFC", name)


Name = Annotated[str, AfterValidator(composed)]
"""A field that holds the name of a product."""


_SEPARATORS = re.compile(r"[\s_\-\u00ad\u2010-\u2015\u2212\u200b\u2060\ufeff]+")


def canonical_name(name: str) -> str:
    """The form in which class names are compared, encoded and kept: NFC, lower case, single spaces.

    Whitespace, underscores, dashes and what shows nothing between words count as spaces, so that a folder
    `metal_disc` is the name `Metal disc`. A name of dashes alone keeps them.
    """
    words = _SEPARATORS.sub(" ", normalize("NFC", name)).strip() or " ".join(name.split())
    return normalize("NFC", words.lower())
