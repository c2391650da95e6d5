"""Multiply-accumulate operations, counted and in words."""

from collections.abc import Callable
from typing import TypeVar

from torch.utils.flop_counter import FlopCounterMode

Result = TypeVar("Result")

FLOPS_PER_MAC = 2


def in_words(macs: float) -> str:
    """Three digits and a unit: `78.8 G`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if macs >= 0.9995 * size:  # what rounds to a thousand belongs to the next unit
            return f"{macs / size:#.3g} {unit}".replace(". ", " ")
    return f"{macs:.0f}"


def counted(function: Callable[[], Result]) -> tuple[Result, int]:
    """What a function returns, and the multiply-accumulates it took."""
    with FlopCounterMode(display=False) as counter:
        result = function()
    return result, counter.get_total_flops() // FLOPS_PER_MAC
