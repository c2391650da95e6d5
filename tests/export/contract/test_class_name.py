"""Spellings of one class name have one form, whoever writes them."""

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.contract.names import canonical_name


@pytest.mark.parametrize(
    ("spellings", "wanted"),
    [
        (
            (
                *("metal_disc", "metal disc", "Metal disc", "  metal   disc", "METAL__DISC", "metal-disc"),
                *(
                    "metal\tdisc\n",
                    "metal\u00a0disc",
                    "metal \u2013 disc",
                    "metal\u200bdisc",
                    "metal\uff3fdisc",
                    "metal\uff0ddisc",
                    "metal\u203fdisc",
                    "\ufeffmetal disc",
                ),
            ),
            "metal disc",
        ),
        (("Gehäuse", "geha\u0308use", "GEHA\u0308USE", "_Geh\u00e4use_"), "geh\u00e4use"),
        (("ΛΟΓΟΣ", "λογος"), "λογος"),
        (("瓶",), "瓶"),
        (("👩\u200d🔧",), "👩\u200d🔧"),
        (("نیم\u200cفاصله",), "نیم\u200cفاصله"),  # noqa: RUF001
        (("disc 2", "disc_2", "Disc-2"), "disc 2"),
        (("disc2",), "disc2"),
        (("-",), "-"),
        (("__",), "__"),
        (("", " \t"), ""),
    ],
)
def test_spellings_of_one_name(spellings: tuple[str, ...], wanted: str) -> None:
    assert {canonical_name(one) for one in spellings} == {wanted}


@given(st.text())
def test_form_is_one_of_its_own_spellings(name: str) -> None:
    form = canonical_name(name)
    assert canonical_name(form) == form
    assert form == canonical_name(normalize("NFD", name))
    assert bool(form) == bool(name.split())
