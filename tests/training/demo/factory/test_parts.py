from __future__ import annotations

import math

import pytest
from numpy.random import default_rng

from training.demo.factory.board import BOARD_PRODUCT
from training.demo.factory.parts import (
    Part,
    Parts,
    assembled,
    extra,
    misplaced,
    missing,
    swapped,
    wrong_colour,
    wrong_part,
)

RED = (0.9, 0.1, 0.1)
SLOTS = tuple(
    Part(f"slot{index}", "disc" if index else "box", 0.2 * index - 0.3, 0.0, 0.03, 0.03, (0.5, 0.5, 0.5))
    for index in range(4)
)
NAMES = tuple(part.slot for part in SLOTS)
SEEDS = range(12)


def unchanged(before: Parts, after: Parts) -> set[str]:
    return {part.slot for part in before if part in after}


@pytest.mark.parametrize("seed", SEEDS)
def test_natural_play_stays_within_tolerance(seed: int) -> None:
    for nominal, part in zip(
        BOARD_PRODUCT.slots, assembled(BOARD_PRODUCT.slots, default_rng(seed)), strict=True
    ):
        assert abs(part.x - nominal.x) <= nominal.play
        assert abs(part.y - nominal.y) <= nominal.play
        assert abs(part.angle - nominal.angle) <= nominal.spin
        assert part.colour != nominal.colour


@pytest.mark.parametrize("seed", SEEDS)
def test_missing_removes_exactly_one(seed: int) -> None:
    after = missing(NAMES[:2])(SLOTS, default_rng(seed))
    assert unchanged(SLOTS, after) in ({*NAMES} - {"slot0"}, {*NAMES} - {"slot1"})


@pytest.mark.parametrize("seed", SEEDS)
def test_extra_adds_a_normal_part_in_free_space(seed: int) -> None:
    after = extra(NAMES, (0.45, 0.45))(SLOTS, default_rng(seed))
    *kept, added = after
    assert tuple(kept) == SLOTS
    assert added.kind in {"box", "disc"}
    assert all(max(abs(added.x - part.x), abs(added.y - part.y)) > 0.06 for part in SLOTS)
    assert max(abs(added.x), abs(added.y)) <= 0.42


@pytest.mark.parametrize("seed", SEEDS)
def test_misplaced_moves_one_beyond_its_tolerance(seed: int) -> None:
    after = misplaced(NAMES, (0.45, 0.45), (0.05, 0.08))(SLOTS, default_rng(seed))
    moves = [
        math.hypot(new.x - old.x, new.y - old.y) for old, new in zip(SLOTS, after, strict=True) if new != old
    ]
    assert len(moves) == 1
    assert 0.05 <= moves[0] <= 0.08


def test_swapped_exchanges_places_only() -> None:
    after = swapped([("slot0", "slot3")])(SLOTS, default_rng(0))
    assert (after[0].x, after[3].x) == (SLOTS[3].x, SLOTS[0].x)
    assert [part.kind for part in after] == [part.kind for part in SLOTS]
    assert unchanged(SLOTS, after) == {"slot1", "slot2"}


def test_wrong_colour_keeps_the_place() -> None:
    after = wrong_colour({"slot2": [RED]})(SLOTS, default_rng(0))
    assert after[2].colour == RED
    assert (after[2].x, after[2].kind) == (SLOTS[2].x, SLOTS[2].kind)
    assert unchanged(SLOTS, after) == {"slot0", "slot1", "slot3"}


def test_wrong_part_changes_the_kind() -> None:
    after = wrong_part({"slot1": [("star", RED)]})(SLOTS, default_rng(0))
    assert (after[1].kind, after[1].colour) == ("star", RED)
    assert unchanged(SLOTS, after) == {"slot0", "slot2", "slot3"}
