"""What a demo product is, and the names of the defect kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from numpy.random import Generator

from training.demo.drawing.canvas import Canvas
from training.demo.drawing.defects import MARKS
from training.demo.drawing.shapes import Point
from training.demo.factory.parts import Change, Part, Parts

GROUPS = ("structural", "component", "logical")


@dataclass(frozen=True)
class Product:
    """A product as data: its slots, how its ground and parts are painted, what can go wrong.

    area: half extents where structural marks fall; warp: how far soft goods bend (0 = rigid).
    """

    name: str
    slots: Parts
    ground: Callable[[Canvas, Generator], None]
    painters: Mapping[str, Callable[[Canvas, Part], None]]
    changes: Mapping[str, Change]
    area: Point
    warp: float = 0.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The defect kinds, which are also the folder names."""
        return (*MARKS, *self.changes)


def kind_group(kind: str) -> str:
    """`structural`, `component` or `logical` of a defect kind.

    Raises ValueError for a kind that does not begin with one of the groups.
    """
    group = kind.partition("_")[0]
    if group not in GROUPS:
        raise ValueError(f"kind {kind!r} does not begin with one of {', '.join(GROUPS)}")
    return group
