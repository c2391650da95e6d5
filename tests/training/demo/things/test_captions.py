import numpy as np
import pytest

from training.demo.things.captions import BY_DAMAGE, DAMAGED, Facts, pair_of_captions, vocabulary
from training.demo.things.damages import DAMAGES
from training.demo.things.scene import Thing
from training.demo.things.split import NOVEL
from training.demo.tiny_clip.model import CONTEXT_LENGTH, MERGES
from training.moeclip.model.prompts import PROMPTS
from training.moeclip.model.tokenizer import train_tokenizer

FACTS = Facts(Thing("box", "wood"), "brown", "crack", (0, 2))
WORDS_OF_DAMAGE = {
    word
    for phrase in (*DAMAGED, *(one for phrases in BY_DAMAGE.values() for one in phrases))
    for word in phrase.replace("{}", "").split()
} - {"a", "with"}


def captions(facts: Facts) -> list[tuple[str, str]]:
    rng = np.random.default_rng(0)
    return [pair_of_captions(facts, rng) for _ in range(300)]


def says_damage(caption: str) -> bool:
    return bool(WORDS_OF_DAMAGE & set(caption.rstrip(".").split()))


def test_only_captions_of_damaged_things_say_so() -> None:
    assert all(says_damage(true) for true, _ in captions(FACTS))
    assert not any(says_damage(true) for true, _ in captions(FACTS.whole()))


def test_the_false_caption_is_another_of_the_same_form() -> None:
    for true, false in captions(FACTS):
        assert true != false
        assert ("box" in true) == ("box" in false)


def test_a_whole_thing_is_told_from_damage_or_from_another_material() -> None:
    for true, false in captions(FACTS.whole()):
        assert says_damage(false) or ("wooden" in true and "wooden" not in false)


def test_true_captions_name_no_other_damage_and_no_other_place() -> None:
    others = {word for kind in DAMAGES if kind != "crack" for word in BY_DAMAGE[kind][0].split()} - {"{}"}
    text = " ".join(true for true, _ in captions(FACTS))
    assert not others & set(text.replace(".", "").split())
    assert "top right" in text
    assert "left" not in text


def test_a_mirrored_picture_has_its_damage_on_the_other_side() -> None:
    assert FACTS.mirrored().place == (0, 0)
    assert FACTS.mirrored().mirrored() == FACTS


@pytest.mark.parametrize("name", ["wooden box", "glass bottle"])
def test_every_word_of_a_prompt_is_one_token(name: str) -> None:
    tokenizer = train_tokenizer(vocabulary(), MERGES, CONTEXT_LENGTH)
    prompts = PROMPTS["released"].fill(name)
    for prompt in (*prompts.normal, *prompts.abnormal):
        tokens = [token for token, kept in zip(*_tokens(tokenizer, prompt), strict=True) if kept]
        assert len(tokens) == 2 + len(prompt.replace(".", " .").split()), tokens


def test_novel_forms_are_no_words_of_the_captions() -> None:
    assert not {thing.form for thing in NOVEL} & set(vocabulary())


def _tokens(tokenizer, text: str) -> tuple[list[str], list[int]]:
    encoding = tokenizer.encode(text)
    return encoding.tokens, encoding.attention_mask
