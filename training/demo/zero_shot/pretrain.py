"""Train the tiny dual encoder from nothing on pairs of pictures and captions, as CLIP was on the web's.

A whole thing and its damaged twin are in the same batch, and each picture has a caption beside its own that
is like it but for a detail: without such neighbours nothing asks the encoder to look at damage.

Legend: P pairs of a batch, B = 2 P pictures, L tokens of a text, E embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.random import Generator, default_rng
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from training.demo.zero_shot.captions import Facts, pair_of_captions
from training.demo.zero_shot.pairs import Pairs
from training.moeclip.clip import CLIP
from training.moeclip.config import CLIPConfig
from training.resume import Resume


class PretrainConfig(BaseModel):
    """How the dual encoder is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=4000, gt=0)
    pairs_per_batch: int = Field(default=32, gt=0)
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: int = 150
    save_every: int = Field(default=200, gt=0)  # steps that a stopped run loses at most
    seed: int = 0
    shards: int = 1
    muon: bool = False

    def rate(self, step: int) -> float:
        """Learning rate of a step, the first being 1: linear warm-up, then a cosine to nothing."""
        rise = min(1.0, step / self.warm_up)
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / (self.steps + 1)))


@dataclass(frozen=True)
class Batch:
    """pictures uint8 (B, H, W, 3), whole ones first, then their damaged twins; one true and one false caption each."""

    pictures: Tensor
    true: Sequence[str]
    false: Sequence[str]


def pretrain(
    model: CLIP,
    config: CLIPConfig,
    tokenizer: Tokenizer,
    pairs: Pairs,
    settings: PretrainConfig,
    on_step: Callable[[int, float], None],
    resume: Resume,
) -> None:
    """Minimise the contrastive loss, going on from what `resume` holds; leaves the model in evaluation mode."""
    optimisers = _optimisers(model, settings)
    parts = {"model": model, **optimisers}
    done = resume.load(parts)
    model.train()
    parameters = list(model.parameters())
    with ThreadPoolExecutor(settings.shards, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for step in range(done + 1, settings.steps + 1):
            shard = partial(_shard, model, config, tokenizer, pairs, settings, step)
            losses, gradients = zip(*pool.map(shard, range(settings.shards)), strict=True)
            for parameter, *each in zip(parameters, *gradients, strict=True):
                parameter.grad = torch.stack(each).mean(0)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimiser in optimisers.values():
                for group in optimiser.param_groups:
                    group["lr"] = settings.rate(step)
                optimiser.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(100))
            on_step(step, sum(losses) / len(losses))
            resume.save(step, parts)
    model.eval()


def _shard(model, config, tokenizer, pairs, settings, step, shard) -> tuple[float, tuple[Tensor, ...]]:
    batch = draw_batch(pairs, settings, step, shard)
    image_BCHW = normalise(batch.pictures, config)
    loss = contrastive_loss(model, image_BCHW, tokenise(tokenizer, [*batch.true, *batch.false]))
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


def contrastive_loss(model: CLIP, image_BCHW: Tensor, tokens: Tensor) -> Tensor:
    """Picture to its caption among all true and false ones, caption to its picture among all.

    tokens: ids (2 B, L), the true captions first.
    """
    image_BE, text_E = model.encode_image(image_BCHW), model.encode_text(tokens)
    logits = model.logit_scale.exp() * image_BE @ text_E.T
    count = len(image_BE)
    wanted = torch.arange(count)
    of_texts = F.cross_entropy(logits[:, :count].T, wanted)
    return (F.cross_entropy(logits, wanted) + of_texts) / 2 + state_loss(logits)


def state_loss(logits: Tensor) -> Tensor:
    """Each picture's own caption against its twin's and against its false one: damage alone decides.

    logits (B, 2 B): pictures by true, then false captions.
    """
    count = len(logits)
    rows = torch.arange(count)
    own, twin, false = logits[rows, rows], logits[rows, (rows + count // 2) % count], logits[rows, rows + count]
    return F.cross_entropy(torch.stack([own, twin, false], dim=1), torch.zeros_like(rows))


def draw_batch(pairs: Pairs, settings: PretrainConfig, step: int, shard: int) -> Batch:
    """One shard of the batch of a step: the same for the same seed."""
    rng = default_rng((settings.seed, step, shard))
    rows = np.sort(_different_forms(pairs.facts, settings.pairs_per_batch, rng))
    pictures = pairs.pictures[rows].swapaxes(0, 1)
    damaged = [pairs.facts[row] for row in rows]
    if rng.random() < 0.5:
        pictures, damaged = pictures[..., ::-1, :], [fact.mirrored() for fact in damaged]
    captions = [pair_of_captions(fact, rng) for fact in (*(one.whole() for one in damaged), *damaged)]
    true, false = zip(*captions, strict=True)
    return Batch(torch.from_numpy(np.ascontiguousarray(pictures.reshape(-1, *pictures.shape[2:]))), true, false)


def normalise(pictures: Tensor, config: CLIPConfig) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) as the vision tower expects it."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.vision.mean, config.vision.std))
    return (pictures.permute(0, 3, 1, 2) / 255 - mean) / std


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids (n, L)."""
    return torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(list(texts))])


def _different_forms(facts: Sequence[Facts], count: int, rng: Generator) -> np.ndarray:
    """Rows of different forms while there are any, so that no caption is true of two pairs."""
    forms: set[str] = set()
    rows = []
    for row in islice(_shuffled(len(facts), rng), 50 * count):
        if facts[row].thing.form not in forms:
            forms.add(facts[row].thing.form)
            rows.append(row)
        if len(rows) == count:
            break
    return np.array(rows)


def _shuffled(count: int, rng: Generator) -> Iterator[int]:
    while True:
        yield from rng.integers(count, size=256).tolist()


def _optimisers(model: CLIP, settings: PretrainConfig) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for all else."""
    matrices = [one for name, one in model.named_parameters() if "resblocks" in name and one.ndim == 2]
    chosen = {id(one) for one in matrices}
    others = [one for one in model.parameters() if id(one) not in chosen]
    if settings.muon:
        return {"muon": torch.optim.Muon(matrices, settings.learning_rate, settings.weight_decay, adjust_lr_fn="match_rms_adamw"),
            "adam": torch.optim.AdamW(others, settings.learning_rate, (0.9, 0.98), weight_decay=0)}
    return {"adam": torch.optim.AdamW([{"params": matrices, "weight_decay": settings.weight_decay},{"params": others, "weight_decay": 0.0}], settings.learning_rate, (0.9, 0.98))}
