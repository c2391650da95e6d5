"""Names of products: one name in whatever Unicode form a file system, a keyboard or a program writes it."""

from typing import Annotated
from unicodedata import normalize

from pydantic import AfterValidator


def composed(name: str) -> str:
    """The name in NFC."""
    return normalize("NFC", name)


Name = Annotated[str, AfterValidator(composed)]
"""A field that holds the name of a product."""
