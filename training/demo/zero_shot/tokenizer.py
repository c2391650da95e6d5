"""A small tokenizer in CLIP's form: lower case, byte-level BPE with word ends, start and end tokens.

Every byte is a token, so any script can be written; the merges are those of the demo's own words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

START, END = "<start_of_text>", "<end_of_text>"
WORD_END = "</w>"
WORDS = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def build_tokenizer(words: Iterable[str], context_length: int) -> Tokenizer:
    """Each of the words becomes one token; texts are cut and filled to `context_length`, zeros at the end."""
    merges = _merges(words)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in merges)]
    tokens = [*dict.fromkeys(pieces), START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = _cut_into_words(models.BPE(vocabulary, merges, end_of_word_suffix=WORD_END))
    tokenizer.add_special_tokens([START, END])
    ends = [(token, vocabulary[token]) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding(length=context_length, pad_id=0, pad_token=tokens[0])
    return tokenizer


def _merges(words: Iterable[str]) -> list[tuple[str, str]]:
    learner = _cut_into_words(models.BPE(end_of_word_suffix=WORD_END))
    trainer = trainers.BpeTrainer(vocab_size=10**5, end_of_word_suffix=WORD_END, show_progress=False)
    learner.train_from_iterator(words, trainer)
    return [(first, second) for first, second in json.loads(learner.to_str())["model"]["merges"]]


def _cut_into_words(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer
