from itertools import combinations

from training.demo.things.forms import FORMS
from training.demo.things.split import CAPTIONED, NOVEL, TEST, TRAINING, VALIDATION


def forms(things: tuple) -> set[str]:
    return {thing.form for thing in things}


def test_no_form_is_in_two_data_sets_with_masks() -> None:
    for one, other in combinations((TRAINING, VALIDATION, TEST, NOVEL), 2):
        assert not forms(one) & forms(other)
    assert forms(TRAINING) | forms(VALIDATION) | forms(TEST) | forms(NOVEL) == set(FORMS)


def test_novel_forms_have_no_captions_and_all_others_do() -> None:
    assert forms(CAPTIONED) == set(FORMS) - forms(NOVEL)


def test_no_thing_is_named_twice() -> None:
    for things in (TRAINING, VALIDATION, TEST, NOVEL):
        assert len({thing.name for thing in things}) == len(things)
