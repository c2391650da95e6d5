"""A MoECLIP small enough for tests: 40-pixel pictures on a 5 x 5 grid, four experts in two layers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from training.data.dataset import find_samples
from training.moeclip.augment import AugmentConfig
from training.moeclip.auxiliary import AuxiliarySet, auxiliary_samples
from training.moeclip.backbone import Backbone
from training.moeclip.fit_config import MoECLIPFitConfig, MoECLIPTrainConfig
from training.moeclip.model.config import CLIPConfig, MoECLIPConfig, MoEConfig, TextConfig, VisionConfig
from training.moeclip.model.detector import MoECLIP
from training.moeclip.model.tokenizer import token_ids

CONTEXT = 10
NAMES = ("disc", "square")
PROMPT_WORDS = ("a", "the", "photo", "of", "with", "damage", "defect", "flaw", "damaged", "broken")
WORDS = ("<pad>", "<unknown>", *NAMES, *PROMPT_WORDS, "<start>", "<end>")

MODEL = MoECLIPConfig(
    clip=CLIPConfig(
        vision=VisionConfig(width=32, depth=3, heads=2, patch_size=8, image_size=(40, 40)),
        text=TextConfig(width=32, depth=1, heads=2, context_length=CONTEXT, vocabulary=len(WORDS)),
        embedding=24,
    ),
    layers=(2, 3),
    moe=MoEConfig(rank=4, alpha=8.0),
    scales=(1, 3),
)


def tiny_config(model: dict[str, Any] | None = None, **train: Any) -> MoECLIPFitConfig:
    """A run of a few steps; `model` and `train` replace single settings."""
    settings: dict[str, Any] = {"steps": 12, "batch_size": 4, "learning_rate": 2e-3, "save_every": 5}
    return MoECLIPFitConfig.model_validate(
        {
            "model": MODEL.model_dump() | (model or {}),
            "train": MoECLIPTrainConfig(**settings | train),
            "map_size": (40, 40),
        }
    )


def tiny_tokenizer() -> Tokenizer:
    """One token a word of WORDS, the end token with the highest id."""
    ids = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, ids[word]) for word in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing("<start> $A <end>", special_tokens=ends)
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(length=CONTEXT, pad_id=0, pad_token="<pad>")
    return tokenizer


def tiny_detector(model: MoECLIPConfig = MODEL, seed: int = 0) -> MoECLIP:
    """Untrained, with the same CLIP for the same seed."""
    torch.manual_seed(seed)
    return MoECLIP(model).eval()


def tiny_backbone(model: MoECLIPConfig = MODEL) -> Backbone:
    return Backbone(model, tiny_detector(model, seed=1).clip, tiny_tokenizer())


def tokenise(texts: Sequence[str]) -> Tensor:
    """Ids (P, CONTEXT) of texts."""
    return token_ids(tiny_tokenizer(), texts)


def auxiliary(data: Path) -> AuxiliarySet:
    return AuxiliarySet(auxiliary_samples(find_samples(data), data), tiny_config().input)


UNCHANGED = AugmentConfig(probability=0)
