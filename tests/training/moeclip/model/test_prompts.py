from training.moeclip.model.prompts import PROMPTS, PromptSet


def test_prompts_of_the_paper() -> None:
    prompts = PROMPTS["paper"].fill("bottle")
    assert prompts.normal == (
        "bottle",
        "a photo of a bottle",
        "the bottle",
        "a photo of a the bottle",
        "a bottle",
        "a photo of a a bottle",
    )
    assert prompts.abnormal[:4] == (
        "bottle with damage",
        "a photo of a bottle with damage",
        "bottle with defect",
        "a photo of a bottle with defect",
    )
    assert prompts.abnormal[-2:] == ("broken bottle", "a photo of a broken bottle")
    assert len(prompts.abnormal) == 10


def test_prompts_of_the_release() -> None:
    prompts = PROMPTS["released"].fill("bottle")
    assert prompts.normal == (
        "bottle.",
        "a photo of bottle.",
        "a bottle.",
        "a photo of a bottle.",
        "the bottle.",
        "a photo of the bottle.",
    )
    assert prompts.abnormal[:2] == ("a damaged bottle.", "a photo of a damaged bottle.")
    assert prompts.abnormal[-2:] == ("a bottle with damage.", "a photo of a bottle with damage.")
    assert len(prompts.abnormal) == 10


def test_braces_in_a_name_stay() -> None:
    assert PromptSet(("a {}",), ("no {}",)).fill("{} {0}") == (("a {} {0}",), ("no {} {0}",))
