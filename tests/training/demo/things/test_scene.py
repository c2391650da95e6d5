import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from training.demo.things.damages import DAMAGES
from training.demo.things.forms import FORMS
from training.demo.things.materials import MATERIALS
from training.demo.things.scene import SIZE, Thing, draw, draw_twins

BOX = Thing("box", "wood")


def test_a_thing_is_called_as_people_call_it() -> None:
    assert BOX.name == "wooden box"


@pytest.mark.parametrize("damage", DAMAGES)
def test_twins_differ_where_the_mask_says(damage: str) -> None:
    whole, damaged = draw_twins(BOX, 5, damage)
    difference = np.abs(damaged.picture.astype(int) - whole.picture).max(2)
    assert not whole.mask.any()
    assert 0.002 < damaged.mask.mean() < 0.15
    assert (difference[damaged.mask] > 8).mean() > 0.6
    assert (difference[np.logical_not(binary_dilation(damaged.mask, iterations=3))] > 16).mean() < 0.01


@pytest.mark.parametrize("form", FORMS)
def test_every_form_can_be_drawn_and_scratched(form: str) -> None:
    whole, scratched = draw_twins(Thing(form, "ceramic"), 3, "scratch")
    assert whole.picture.shape == (SIZE, SIZE, 3)
    assert whole.picture.std() > 5
    assert scratched.mask.any()


@pytest.mark.parametrize("material", MATERIALS)
def test_every_material_has_its_colours(material: str) -> None:
    assert draw(Thing("gear", material), 1).colour in MATERIALS[material].colours


def test_one_seed_gives_one_picture_and_another_another() -> None:
    first, again, other = (draw(BOX, seed, "crack").picture for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5


def test_a_damaged_picture_is_that_of_the_twins() -> None:
    np.testing.assert_array_equal(draw(BOX, 4, "dent").picture, draw_twins(BOX, 4, "dent")[1].picture)
    np.testing.assert_array_equal(draw(BOX, 4).picture, draw_twins(BOX, 4, "dent")[0].picture)


def test_an_unknown_damage_is_refused() -> None:
    with pytest.raises(ValueError, match="damage 'rust' is not one of scratch"):
        draw(BOX, 0, "rust")
