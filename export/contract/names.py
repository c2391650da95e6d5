"""Names of products: one name in whatever Unicode form a file system, a keyboard or a program writes it.

And names of files that nobody put among the pictures.
"""

from typing import Annotated
from unicodedata import category, normalize

from pydantic import AfterValidator


def composed(name: str) -> str:
    """The name in NFC."""
    return normalize("NFC", name)


Name = Annotated[str, AfterValidator(composed)]
"""A field that holds the name of a product."""

_SEPARATORS = ("Pc", "Pd")  # categories: underscores and dashes of all scripts and widths
_OTHER_SEPARATORS = "\u00ad\u200b\u2060\ufeff\u2212"  # what shows nothing, and the minus sign


def canonical_name(name: str) -> str:
    """The form in which class names are compared, encoded and kept: NFC, lower case, single spaces.

    Whitespace, underscores, dashes and what shows nothing between words count as spaces, so that a folder
    `metal_disc` is the name `Metal disc`. A name of dashes alone keeps them.
    """
    spaced = [
        " " if category(one) in _SEPARATORS or one in _OTHER_SEPARATORS else one for one in composed(name)
    ]
    words = " ".join("".join(spaced).split()) or " ".join(name.split())
    return normalize("NFC", words.lower())


# Of network drives and systems: thumbnails, and what was deleted.
_SYSTEM_FOLDERS = frozenset({"@eadir", "@recycle", "#recycle", "$recycle.bin", "__macosx"})


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of its user's."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS
