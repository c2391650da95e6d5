"""Train the tiny dual encoder from nothing on pairs of pictures and captions, as CLIP was on the web's.

A whole thing and its damaged twin are in the same batch, and each picture has a caption beside its own that
is like it but for a detail: without such neighbours nothing asks the encoder to look at damage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from numpy.random import default_rng
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.demo.things.pairs import Pairs
from training.demo.tiny_clip.contrast import contrastive_loss, draw_batch
from training.device import denormals_as_zero
from training.moeclip.model.detector import MoECLIP
from training.moeclip.model.tokenizer import token_ids
from training.runs.resume import Resume

LARGEST_SCALE = math.log(100)


class PretrainConfig(BaseModel):
    """How the dual encoder is trained.

    shards: of each batch, each on a thread of its own and contrasted by itself; gradients are averaged.
    cool_down: share of the steps in which the learning rate falls. save_every: steps that a stopped run loses
    at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=3000, gt=0)
    shards: int = Field(default=2, gt=0)
    pairs_per_shard: int = Field(default=16, gt=0)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warm_up: int = Field(default=150, gt=0)
    cool_down: float = Field(default=0.35, gt=0, le=1)
    save_every: int = Field(default=200, gt=0)
    seed: int = Field(default=0, ge=0)

    def rate(self, step: int) -> float:
        """Learning rate of a step, the first being 1: a linear rise, level, and a linear fall to nothing."""
        rise, fall = step / self.warm_up, (self.steps + 1 - step) / (self.cool_down * self.steps)
        return self.learning_rate * min(1.0, rise, fall)


def pretrain(
    model: MoECLIP,
    tokenizer: Tokenizer,
    pairs: Pairs,
    config: PretrainConfig,
    on_step: Callable[[int, float], None],
    resume: Resume,
) -> None:
    """Train the CLIP of a model, going on from what `resume` holds; the adapters stay as they are.

    Raises ResumeError for a state that cannot be used.
    """
    trainer = Pretraining(model, tokenizer, pairs, config)
    done = resume.load(trainer.parts)
    with _quick(), ThreadPoolExecutor(config.shards, "shard", torch.set_num_threads, (1,)) as pool:
        for step in range(done + 1, config.steps + 1):
            on_step(step, trainer.step(step, pool))
            resume.save(step, trainer.parts)
    model.clip.requires_grad_(False)


class Pretraining:
    """The CLIP under training, its optimisers and the pictures: all that a step needs."""

    def __init__(self, model: MoECLIP, tokenizer: Tokenizer, pairs: Pairs, config: PretrainConfig) -> None:
        self.model, self.tokenizer, self.pairs, self.config = model, tokenizer, pairs, config
        self.parameters = list(model.clip.requires_grad_(True).parameters())
        matrices = [
            one for name, one in model.clip.named_parameters() if "resblocks" in name and one.ndim == 2
        ]
        chosen = set(matrices)
        others = [one for one in self.parameters if one not in chosen]
        rate, decay = config.learning_rate, config.weight_decay
        self.muon = torch.optim.Muon(matrices, rate, decay, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.AdamW(others, rate, (0.9, 0.98), weight_decay=0)

    @property
    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """All that steps change."""
        return {"clip": self.model.clip, "muon": self.muon, "adam": self.adam}

    def step(self, step: int, pool: ThreadPoolExecutor) -> float:
        """One step; returns the mean loss of the shards."""
        shards = pool.map(lambda shard: self._gradients(step, shard), range(self.config.shards))
        losses, gradients = zip(*shards, strict=True)
        for parameter, *each in zip(self.parameters, *gradients, strict=True):
            parameter.grad = torch.stack(each).mean(0)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser in (self.muon, self.adam):
            for group in optimiser.param_groups:
                group["lr"] = self.config.rate(step)
            optimiser.step()
        with torch.no_grad():
            self.model.clip.logit_scale.clamp_(max=LARGEST_SCALE)
        return sum(losses) / len(losses)

    def _gradients(self, step: int, shard: int) -> tuple[float, tuple[Tensor, ...]]:
        rng = default_rng((self.config.seed, step, shard))
        batch = draw_batch(self.pairs, self.config.pairs_per_shard, rng)
        tokens = token_ids(self.tokenizer, [*batch.true, *batch.false])
        loss = contrastive_loss(self.model.clip, self.model.normalise(batch.pictures), tokens)
        return loss.item(), torch.autograd.grad(loss, self.parameters)


@contextmanager
def _quick() -> Iterator[None]:
    """Matrix products in bfloat16 where a CPU has them, which the fused attention of a small model spoils."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with sdpa_kernel(SDPBackend.MATH), denormals_as_zero():
            yield
    finally:
        torch.set_float32_matmul_precision(before)
