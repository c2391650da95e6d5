from __future__ import annotations

import pytest
from numpy.random import default_rng

from training.demo.factory.parts import assembled
from training.demo.factory.product import GROUPS, Product, kind_group
from training.demo.factory.registry import PRODUCTS, find_product


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_every_product_has_defects_of_all_groups(product: Product) -> None:
    assert {kind_group(kind) for kind in product.kinds} == set(GROUPS)


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_slots_are_unique_and_every_kind_has_a_painter(product: Product) -> None:
    assert len({part.slot for part in product.slots}) == len(product.slots)
    parts = assembled(product.slots, default_rng(0))
    for change in product.changes.values():
        for seed in range(20):
            assert {part.kind for part in change(parts, default_rng(seed))} <= set(product.painters)


def test_kind_group_of_a_logical_defect() -> None:
    assert kind_group("logical_missing") == "logical"


def test_kind_group_names_the_kind_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="'good'"):
        kind_group("good")


def test_an_unknown_product_is_named() -> None:
    with pytest.raises(ValueError, match="'tile' is not one of fabric, board, blister"):
        find_product("tile")
