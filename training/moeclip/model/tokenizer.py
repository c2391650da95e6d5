"""CLIP's tokenisation in the form of the Rust `tokenizers` library, which a bundle carries as one JSON file.

CLIP cleans texts with ftfy and html.unescape before it lowers their case. What these do to names is said here
with normalizers: typographic quotes, ligatures, full and half width, control characters, composition (NFC)
and the commonest entities. Left out: broken encodings (ftfy's mojibake), terminal escapes, other entities.
CLIP also takes `<end_of_text>` written in a text for the token; here it is text like any other.
"""

import gzip
import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from open_clip import tokenizer as open_clip_tokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

START, END = "<start_of_text>", "<end_of_text>"
WORD_END = "</w>"
PAD = 0

_CLIP_MERGES = 48_894
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CONTROLS = "[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]"
_FINAL_SIGMA = r"(?<=\p{L})Σ(?!\p{L})"  # lower case follows the word in Python, the letter in Rust
_ENTITIES = {
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    "&quot;": '"',
    "&#39;": "'",
    "&apos;": "'",
    "&nbsp;": " ",
}
_SINGLE_QUOTES, _DOUBLE_QUOTES = "[\u02bc\u2018-\u201b]", "[\u201c-\u201f]"
_LIGATURES = {
    **{"\u0132": "IJ", "\u0133": "ij", "\u0149": "'n"},
    **{
        "\u01f1": "DZ",
        "\u01f2": "Dz",
        "\u01f3": "dz",
        "\u01c4": "D\u017d",
        "\u01c5": "D\u017e",
        "\u01c6": "d\u017e",
    },
    **{"\u01c7": "LJ", "\u01c8": "Lj", "\u01c9": "lj", "\u01ca": "NJ", "\u01cb": "Nj", "\u01cc": "nj"},
    **{"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl"},
    **{"\ufb05": "\u017ft", "\ufb06": "st"},
}
_FULL_AND_HALF_WIDTH = range(0xFF01, 0xFFF0)


def clip_tokenizer(context_length: int = 77) -> Tokenizer:
    """CLIP's own tokenizer, from the vocabulary that open_clip brings along: 49408 ids."""
    lines = gzip.decompress(Path(open_clip_tokenizer.default_bpe()).read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 1 + _CLIP_MERGES]]
    return build_tokenizer([(left, right) for left, right in merges], context_length)


def train_tokenizer(texts: Iterable[str], merges: int, context_length: int) -> Tokenizer:
    """A tokenizer of the same form whose pairs are the most frequent ones of some texts.

    merges: pairs at most; there are 514 ids besides. Any text can be read: bytes are the smallest tokens.
    """
    tokenizer = build_tokenizer([], context_length)
    alphabet = _alphabet()
    trainer = trainers.BpeTrainer(  # pyright: ignore[reportCallIssue] (its stub has no signature)
        vocab_size=2 * len(alphabet) + merges,
        initial_alphabet=alphabet,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]["merges"]
    return build_tokenizer([(left, right) for left, right in learnt[:merges]], context_length)


def build_tokenizer(merges: Sequence[tuple[str, str]], context_length: int) -> Tokenizer:
    """Bytes, bytes that end a word, merged pairs and, last, start and end: ids in this order, as CLIP's.

    Each text gives exactly context_length ids: start, at most context_length - 2, end, then PAD.
    """
    alphabet = _alphabet()
    pieces = [
        *alphabet,
        *(one + WORD_END for one in alphabet),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=list(merges), end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence(_cleaning())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{START} $A {END}", special_tokens=[(one, ids[one]) for one in (START, END)]
    )
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding(length=context_length, pad_id=PAD, pad_token=pieces[PAD])
    return tokenizer


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Ids of texts, int64 (P, L)."""
    return torch.tensor([one.ids for one in tokenizer.encode_batch(list(texts))], dtype=torch.int64)


def _alphabet() -> list[str]:
    """One printable character for each byte, in CLIP's order: printable ones first, then the others."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(others))]


def _cleaning() -> list[normalizers.Normalizer]:
    """In ftfy's order; entities may be escaped twice, as html.unescape runs twice."""
    replaced = [("&amp;", "&"), *_ENTITIES.items(), *_LIGATURES.items(), ("\u3000", " ")]
    for code in _FULL_AND_HALF_WIDTH:
        usual = unicodedata.normalize("NFKC", chr(code))
        if usual != chr(code):
            replaced.append((chr(code), usual))
    return [
        *(normalizers.Replace(before, after) for before, after in replaced),
        normalizers.Replace(Regex(_SINGLE_QUOTES), "'"),
        normalizers.Replace(Regex(_DOUBLE_QUOTES), '"'),
        normalizers.Replace(Regex(_CONTROLS), ""),
        normalizers.NFC(),
        normalizers.Replace(Regex(_FINAL_SIGMA), "ς"),
        normalizers.Lowercase(),
    ]
