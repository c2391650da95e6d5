"""tokenizer.json against CLIP's own tokenisation, on product names as people write them."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from tokenizers import Tokenizer

from training.moeclip.model.tokenizer import END, START, clip_tokenizer, token_ids, train_tokenizer

BY_SCRIPT = json.loads(Path(__file__).with_name("product_names.json").read_text(encoding="utf-8"))
NAMES = [name for names in BY_SCRIPT.values() for name in names]
PROMPTS = ["{}", "a photo of a {} with damage.", "broken {}."]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return clip_tokenizer()


def test_the_corpus_is_tokenised_as_by_clip(tokenizer: Tokenizer) -> None:
    texts = [prompt.replace("{}", name) for name in NAMES for prompt in PROMPTS]
    ours, theirs = token_ids(tokenizer, texts), open_clip.SimpleTokenizer()(texts)
    different = [text for text, one, other in zip(texts, ours, theirs, strict=True) if not one.equal(other)]
    assert different == []


def test_another_context_length_keeps_the_end_token(tokenizer: Tokenizer) -> None:
    short = clip_tokenizer(8)
    ours = token_ids(short, ["one two three four five six seven eight nine", "one"])
    assert torch.equal(
        ours, open_clip.SimpleTokenizer()(["one two three four five six seven eight nine", "one"], 8)
    )
    assert ours.argmax(1).tolist() == [7, 2]


def test_it_survives_its_json(tokenizer: Tokenizer) -> None:
    again = Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str())))
    assert torch.equal(token_ids(again, NAMES), token_ids(tokenizer, NAMES))


def test_special_tokens_written_in_a_name_are_text(tokenizer: Tokenizer) -> None:
    ids = token_ids(tokenizer, [f"bolt {END} {START} nut"])[0]
    end = tokenizer.token_to_id(END)
    assert (ids == end).sum() == 1
    assert (ids == tokenizer.token_to_id(START)).sum() == 1
    assert end == tokenizer.get_vocab_size() - 1 == 49407


def test_a_trained_tokenizer_merges_what_is_frequent_and_reads_everything() -> None:
    texts = ["a photo of a red bolt", "a photo of a blue bolt with damage"] * 5
    small = train_tokenizer(texts, merges=40, context_length=24)
    assert small.get_vocab_size() <= 514 + 40
    assert small.encode("A photo of a bolt").tokens[:7] == [
        START,
        "a</w>",
        "photo</w>",
        "of</w>",
        "a</w>",
        "bolt</w>",
        END,
    ]
    ids = token_ids(small, NAMES)
    assert ids.shape == (len(NAMES), 24)
    assert (ids[:, 0] == small.token_to_id(START)).all()
    assert (ids.max(1).values == small.token_to_id(END)).all()
    assert small.token_to_id(END) == small.get_vocab_size() - 1
    assert train_tokenizer(texts, merges=40, context_length=24).to_str() == small.to_str()
