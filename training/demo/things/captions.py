"""Captions as people write them: the name in more or less detail, and the state it is in.

A whole thing is mostly just named, as in the prompts of MoECLIP; a damaged one is always said to be damaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from numpy.random import Generator

from training.demo.things.damages import DAMAGES
from training.demo.things.materials import MATERIALS
from training.demo.things.scene import Thing
from training.demo.things.split import CAPTIONED

TEMPLATES = ("{}.", "{}", "a photo of {}.", "a photo of {}")
NAMES = ("{material} {form}", "{material} {form}", "{form}", "{colour} {material} {form}", "{colour} {form}")
WHOLE = (
    "{}",
    "a {}",
    "the {}",
    "{}",
    "a {}",
    "the {}",
    "a flawless {}",
    "a perfect {}",
    "an intact {}",
    "an undamaged {}",
)
DAMAGED = ("damaged {}", "broken {}", "{} with damage", "{} with flaw", "{} with defect")
BY_DAMAGE: Mapping[str, Sequence[str]] = {
    "scratch": ("scratched {}", "{} with a scratch"),
    "crack": ("cracked {}", "{} with a crack"),
    "stain": ("stained {}", "{} with a stain"),
    "hole": ("pierced {}", "{} with a hole"),
    "missing piece": ("chipped {}", "{} with a missing piece"),
    "dent": ("dented {}", "{} with a dent"),
}
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
GENERIC, WITH_PLACE, OTHER_MATERIAL = 0.4, 0.5, 0.25  # shares of the captions
# Names that say nothing, as a stranger's product names do: the state must be read without them.
PLAIN_NAMES = ("object", "thing", "part", "product")
PLAIN, MADE_UP = 0.06, 0.12
SYLLABLES = (
    "ba",
    "cor",
    "di",
    "el",
    "fu",
    "gan",
    "he",
    "in",
    "jo",
    "kar",
    "lo",
    "mi",
    "nor",
    "or",
    "pe",
    "ri",
    "sto",
    "tu",
    "ver",
    "zi",
)


@dataclass(frozen=True)
class Facts:
    """What a caption may tell: the thing, its colour, and the damage at `place` (row, column) of nine."""

    thing: Thing
    colour: str
    damage: str | None = None
    place: tuple[int, int] = (1, 1)

    def whole(self) -> Facts:
        """Of the same thing without the damage."""
        return replace(self, damage=None)

    def mirrored(self) -> Facts:
        """Of the picture with left and right exchanged."""
        return replace(self, place=(self.place[0], 2 - self.place[1]))


def pair_of_captions(facts: Facts, rng: Generator) -> tuple[str, str]:
    """A caption that is true of a picture, and one like it in all but a detail that is not."""
    name, template = _name(rng), _pick(TEMPLATES, rng)
    other = facts
    if "{material}" in name and rng.random() < OTHER_MATERIAL:
        others = [key for key in MATERIALS if key != facts.thing.material]
        other = replace(facts, thing=Thing(facts.thing.form, _pick(others, rng)))
        state = _state(facts, rng)
        return template.format(state.format(_named(facts, name))), template.format(
            state.format(_named(other, name))
        )
    true, false = _states(facts, rng)
    named = _named(facts, name)
    return template.format(true.format(named)), template.format(false.format(named))


def vocabulary() -> list[str]:
    """Every word of the captions, once."""
    phrases = [*WHOLE, *DAMAGED, *chain(*BY_DAMAGE.values(), *PLACES), *PLAIN_NAMES, "a photo of"]
    names = [*{thing.form for thing in CAPTIONED}, *(material.word for material in MATERIALS.values())]
    colours = {colour for material in MATERIALS.values() for colour in material.colours}
    return sorted({word for text in (*phrases, *names, *colours) for word in text.replace("{}", "").split()})


def _name(rng: Generator) -> str:
    kind = rng.random()
    if kind < PLAIN:
        return _pick(PLAIN_NAMES, rng)
    if kind < MADE_UP:
        return "".join(_pick(SYLLABLES, rng) for _ in range(int(rng.integers(2, 5))))
    return _pick(NAMES, rng)


def _states(facts: Facts, rng: Generator) -> tuple[str, str]:
    """The state of a thing, true and false."""
    if facts.damage is None:
        return _pick(WHOLE, rng), _damaged(_any_damage(facts, rng), rng)
    if rng.random() < GENERIC:
        return _articled(_pick(DAMAGED, rng), rng), _pick(WHOLE, rng)
    return _damaged(facts, rng, WITH_PLACE), _damaged(_any_damage(facts, rng), rng, WITH_PLACE)


def _state(facts: Facts, rng: Generator) -> str:
    return _pick(WHOLE, rng) if facts.damage is None else _damaged(facts, rng)


def _damaged(facts: Facts, rng: Generator, with_place: float = 0.0) -> str:
    if rng.random() < GENERIC and with_place == 0:
        return _articled(_pick(DAMAGED, rng), rng)
    assert facts.damage is not None
    phrase = _articled(_pick(BY_DAMAGE[facts.damage], rng), rng)
    row, column = facts.place
    return f"{phrase} {PLACES[row][column]}" if rng.random() < with_place else phrase


def _any_damage(facts: Facts, rng: Generator) -> Facts:
    """Damage of another kind, and at another place if there was one."""
    kinds = [kind for kind in DAMAGES if kind != facts.damage]
    place = (int(rng.integers(3)), int(rng.integers(3)))
    return replace(facts, damage=_pick(kinds, rng), place=place)


def _articled(phrase: str, rng: Generator) -> str:
    return _pick(("{}", "a {}", "the {}"), rng).format(phrase)


def _named(facts: Facts, name: str) -> str:
    return name.format(
        material=MATERIALS[facts.thing.material].word, form=facts.thing.form, colour=facts.colour
    )


def _pick(choices: Sequence[str], rng: Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
