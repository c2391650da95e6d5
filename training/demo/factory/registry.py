"""The table of demo products."""

from __future__ import annotations

from collections.abc import Mapping

from training.demo.factory.blister import BLISTER
from training.demo.factory.board import BOARD_PRODUCT
from training.demo.factory.fabric import FABRIC
from training.demo.factory.product import Product

PRODUCTS: Mapping[str, Product] = {product.name: product for product in (FABRIC, BOARD_PRODUCT, BLISTER)}


def find_product(name: str) -> Product:
    """The product called `name`.

    Raises ValueError naming the products there are.
    """
    if name not in PRODUCTS:
        raise ValueError(f"product {name!r} is not one of {', '.join(PRODUCTS)}")
    return PRODUCTS[name]
