"""Names of any script come out in one form; what cannot be a name is refused by place and value."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.detection.class_names import clean_names
from service.errors import Kind, Problem, shown

LIMIT = 100


def complaint(*names: str, max_names: int = 16, max_characters: int = LIMIT) -> str:
    with pytest.raises(Problem) as caught:
        clean_names(names, max_names, max_characters)
    assert caught.value.kind is Kind.INVALID_PARAMETER
    return caught.value.detail


@pytest.mark.parametrize(
    ("given_name", "wanted"),
    [
        ("bottle", "bottle"),
        ("  metal\t\n nut\u00a0\u3000M8 ", "metal nut m8"),
        ("Metal_Nut", "metal nut"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("瓶", "瓶"),
        ("زجاجة", "زجاجة"),
        ("بقبوق", "بقبوق"),
        ("نیم\u200cفاصله", "نیم\u200cفاصله"),  # noqa: RUF001
        ("👩\u200d🔧", "👩\u200d🔧"),
        ("🔩", "🔩"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("{} {0.__class__}", "{} {0. class }"),
        ("x" * LIMIT, "x" * LIMIT),
        ("e\u0301" * LIMIT, "\u00e9" * LIMIT),
    ],
)
def test_names_of_every_script_are_kept_in_one_form(given_name: str, wanted: str) -> None:
    assert clean_names([given_name], 1, LIMIT) == [(given_name, wanted)]


def test_every_name_stands_in_its_place_as_it_was_asked_for() -> None:
    names = ["screw", "nut", " screw", "caf\u00e9", "cafe\u0301", "Nut"]
    cleaned = clean_names(names, 6, LIMIT)
    assert [one.asked for one in cleaned] == names
    assert [one.canonical for one in cleaned] == ["screw", "nut", "screw", "caf\u00e9", "caf\u00e9", "nut"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "\t\n",
        "\u0301",
        "\u0301\u0302 \u0303",
        "\u200b",
        "\ufeff",
        "\u200d\u200d",
        "\u3164",
        "\ufe0f",
    ],
)
def test_name_that_shows_nothing_is_refused(name: str) -> None:
    assert complaint("nut", name) == f"class_names[1]: no visible character, got {name!r}"


@pytest.mark.parametrize(
    "character", ["\0", "\x07", "\x1b", "\x1c", "\x7f", "\x9b", "\u202e", "\u2066", "\u200f"]
)
def test_control_character_is_named_and_not_echoed(character: str) -> None:
    detail = complaint(f"nu{character}t")
    assert detail.startswith(f"class_names[0]: character U+{ord(character):04X} is not allowed, got ")
    assert character not in detail


def test_bytes_that_were_no_text_are_refused() -> None:
    assert "U+FFFD" in complaint(b"nu\xfft".decode(errors="replace"))
    assert "U+D800" in complaint("nu\ud800t")


@pytest.mark.parametrize("name", ["x" * (LIMIT + 1), "x" * 10_000, "a\u0301\u0323" * 100_000, " " * 10_000])
def test_long_name_is_refused_with_a_short_message(name: str) -> None:
    detail = complaint(name)
    assert detail.startswith(f"class_names[0]: longer than {LIMIT} characters, got ")
    assert len(detail) < 1500


def test_number_of_names_is_bounded() -> None:
    assert complaint() == "class_names: 1 to 16 names are expected, got 0"
    assert complaint("a", "a", "a", max_names=2) == "class_names: 1 to 2 names are expected, got 3"


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_any_text_is_refused_with_its_place_or_comes_out_clean_once_and_for_all(names: list[str]) -> None:
    refused = None
    cleaned: list[str] = []
    try:
        cleaned = [name.canonical for name in clean_names(names, 6, LIMIT)]
    except Problem as problem:
        refused = problem.detail
    if refused is not None:
        assert any(
            refused.startswith(f"class_names[{place}]: ") and refused.endswith(shown(name))
            for place, name in enumerate(names)
        )
    assert not cleaned or [name.canonical for name in clean_names(cleaned, 6, LIMIT)] == cleaned
    for name in cleaned:
        assert name == unicodedata.normalize("NFC", name).lower() == " ".join(name.split())
        assert not any(unicodedata.category(character) == "Cc" for character in name)
