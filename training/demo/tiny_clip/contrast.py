"""The contrastive loss of the tiny dual encoder, and the batches that it compares.

Legend: P pairs of a batch, B = 2 P pictures, L tokens of a text, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.demo.things.captions import Facts, pair_of_captions
from training.demo.things.pairs import Pairs
from training.moeclip.model.clip import CLIP


@dataclass(frozen=True)
class Batch:
    """pictures uint8 (B, H, W, 3): whole things, then in the same order their damaged twins.

    true, false: B captions each.
    """

    pictures: Tensor
    true: Sequence[str]
    false: Sequence[str]


def draw_batch(pairs: Pairs, count: int, rng: Generator) -> Batch:
    """`count` pairs of different forms, so that no caption is true of two; half of the batches mirrored."""
    rows = _rows_of_different_forms(pairs.facts, count, rng)
    pictures = pairs.pictures[rows].swapaxes(0, 1)
    damaged = [pairs.facts[row] for row in rows]
    if rng.random() < 0.5:
        pictures, damaged = pictures[..., ::-1, :], [facts.mirrored() for facts in damaged]
    captions = [pair_of_captions(facts, rng) for facts in (*(one.whole() for one in damaged), *damaged)]
    true, false = zip(*captions, strict=True)
    flat = np.ascontiguousarray(pictures.reshape(-1, *pictures.shape[2:]))
    return Batch(torch.from_numpy(flat), true, false)


def contrastive_loss(model: CLIP, image_BCHW: Tensor, tokens: Tensor) -> Tensor:
    """Picture to its caption among all true and false ones, caption to its picture, and `state_loss`.

    image_BCHW: normalised. tokens: ids (2 B, L), those of the true captions first.
    """
    count = len(image_BCHW)
    wanted = torch.arange(count)
    logits = model.logit_scale.exp() * model.encode_image(image_BCHW) @ model.encode_text(tokens).T
    of_texts = F.cross_entropy(logits[:, :count].T, wanted)
    return (F.cross_entropy(logits, wanted) + of_texts) / 2 + state_loss(logits)


def state_loss(logits: Tensor) -> Tensor:
    """Each picture's own caption against its twin's and its false one: damage decides, or what else is false.

    logits (B, 2 B): pictures by true, then false captions.
    """
    count = len(logits)
    rows = torch.arange(count)
    twins = (rows + count // 2) % count
    choices = torch.stack([logits[rows, rows], logits[rows, twins], logits[rows, rows + count]], dim=1)
    return F.cross_entropy(choices, torch.zeros_like(rows))


def _rows_of_different_forms(facts: Sequence[Facts], count: int, rng: Generator) -> NDArray[np.int64]:
    rows: dict[str, int] = {}
    while len(rows) < count:
        row = int(rng.integers(len(facts)))
        rows.setdefault(facts[row].thing.form, row)
    return np.sort(list(rows.values()))
