"""Class names as callers write them, checked and brought to one form."""

from collections.abc import Sequence
from typing import NamedTuple
from unicodedata import category

from export.contract.names import canonical_name
from service.errors import Kind, Problem, shown

_WHITESPACE_CONTROLS = "\t\n\v\f\r\x85"
_BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_REPLACEMENT = "\ufffd"  # what is left of bytes that were no UTF-8
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols by category, empty to the eye
_INVISIBLE = ("Cf", "Mn", "Mc", "Me", "Zs", "Zl", "Zp")
_MOST_COMPOSED = 4  # NFC makes one character of at most this many


class ClassName(NamedTuple):
    """A name as it is asked for and answered, and the form in which it is compared, encoded and kept."""

    asked: str
    canonical: str


def clean_names(names: Sequence[str], max_names: int, max_characters: int) -> list[ClassName]:
    """The names in order, each as often as it is asked for.

    Raises: Problem (422) naming the place and the value of the first name at fault.
    """
    if not 1 <= len(names) <= max_names:
        detail = f"class_names: 1 to {max_names} names are expected, got {len(names)}"
        raise Problem(Kind.INVALID_PARAMETER, detail)
    cleaned: list[ClassName] = []
    for place, name in enumerate(names):
        try:
            cleaned.append(ClassName(name, clean_name(name, max_characters)))
        except ValueError as error:
            raise wrong_name(place, name, str(error)) from error
    return cleaned


def wrong_name(place: int, name: str, why: str) -> Problem:
    """The answer to a caller one of whose names is wrong."""
    return Problem(Kind.INVALID_PARAMETER, f"class_names[{place}]: {why}, got {shown(name)}")


def clean_name(name: str, max_characters: int) -> str:
    """The canonical form of one name.

    Joiners inside emoji and Persian words stay. Raises ValueError when the name is too long, holds a
    control character (also one that turns the direction of writing), or shows nothing.
    """
    composable = len(name) <= _MOST_COMPOSED * max_characters  # else too long however it is composed
    if composable:
        _refuse_controls(name)
        name = canonical_name(name)
    if len(name) > max_characters:
        raise ValueError(f"longer than {max_characters} characters")
    if all(category(character) in _INVISIBLE or character in _BLANK_LETTERS for character in name):
        raise ValueError("no visible character")
    return name


def _refuse_controls(name: str) -> None:
    for character in name:
        is_control = category(character) in ("Cc", "Cs") and character not in _WHITESPACE_CONTROLS
        if is_control or character in _BIDI_CONTROLS or character == _REPLACEMENT:
            raise ValueError(f"character U+{ord(character):04X} is not allowed")
