"""Parameters as they are understood."""

from service.schemas.detect import DetectParameters


def test_a_product_is_asked_for_in_any_unicode_form() -> None:
    names = {DetectParameters(category=name).category for name in ("Geh\u00e4use", "Geha\u0308use")}
    assert names == {"Geh\u00e4use"}
