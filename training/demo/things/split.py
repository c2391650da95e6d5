"""Which things there are, and which classes the masks of training, validation and test may show.

Pretraining sees captions of all things but the novel forms, which are in nothing but a test of their own.
Training with masks, validation and test share no form. Everything that was tuned was tuned on validation.
"""

from __future__ import annotations

from training.demo.things.forms import FORMS
from training.demo.things.materials import MATERIALS
from training.demo.things.scene import Thing

VALIDATION = (
    Thing("vase", "ceramic"),
    Thing("vase", "glass"),
    Thing("star", "paper"),
    Thing("screw", "metal"),
    Thing("bowl", "wood"),
    Thing("hook", "plastic"),
    Thing("panel", "leather"),
    Thing("panel", "metal"),
)
TEST = (
    Thing("bottle", "glass"),
    Thing("bottle", "plastic"),
    Thing("cup", "ceramic"),
    Thing("gear", "metal"),
    Thing("gear", "plastic"),
    Thing("key", "metal"),
    Thing("leaf", "fabric"),
    Thing("nut", "rubber"),
    Thing("wheel", "wood"),
    Thing("spoon", "wood"),
    Thing("board", "wood"),
    Thing("board", "stone"),
)
NOVEL = (Thing("bell", "metal"), Thing("heart", "stone"), Thing("heart", "fabric"))

_KEPT_OUT = {thing.form for thing in (*VALIDATION, *TEST, *NOVEL)}
TRAINING = tuple(
    Thing(form, list(MATERIALS)[(3 * place + 5 * turn) % len(MATERIALS)])
    for place, form in enumerate(form for form in FORMS if form not in _KEPT_OUT)
    for turn in range(2)
)
CAPTIONED = tuple(
    Thing(form, material)
    for form in FORMS
    if form not in {thing.form for thing in NOVEL}
    for material in MATERIALS
)
