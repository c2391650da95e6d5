"""MoECLIP as the three graphs of a bundle: vision, text and head.

Legend: B pictures, N patches, E embedding, P prompts, L tokens of a prompt, r rows = pairs of a picture and a
class name, H W pixels, h w patch grid.
"""

from collections.abc import Iterable, Iterator
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.contract.manifest import ZeroShotSpec
from export.graphs.part import Part
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.model.config import MoECLIPConfig
from training.moeclip.model.detector import MoECLIP
from training.moeclip.model.maps import TEMPERATURE, image_logits, image_score, served_map
from training.moeclip.model.prompts import PROMPTS
from training.moeclip.model.tokenizer import token_ids

_PICTURES, _PROMPTS, _ROWS = ("B",), ("P",), ("r",)


class Vision(nn.Module):
    """image -> tokens (B, N, E), summed over layers and scales, summary (B, E), embedding (B, E).

    The served map is linear in the tokens, so their sum says as much as all of them. The experts run in the
    fused form: no token is gathered or scattered.
    """

    def __init__(self, model: MoECLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = self.model(self.model.normalise(image))
        # One after the other: a sum over an axis adds up otherwise where a picture is alone in its batch.
        tokens = reduce(torch.add, seen.tokens.unbind(1))
        return tokens, F.normalize(seen.summary, dim=-1), seen.embedding


class Text(nn.Module):
    """tokens (P, L) -> features (P, E) in the space of the maps, embedding (P, E) as CLIP's own."""

    def __init__(self, model: MoECLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        features, embedding = self.model.read(tokens)
        return features, embedding.clone()  # two outputs, also where they are equal


class ZeroShotHead(nn.Module):
    """tokens, summary, rows (r), text (r, 2, E), medical bool (r) -> map (r, Hm, Wm), score (r).

    rows: the picture of each pair. text: normal, then anomalous.
    """

    def __init__(self, config: MoECLIPConfig, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.map_size = config, map_size

    def forward(
        self, tokens: Tensor, summary: Tensor, rows: Tensor, text: Tensor, medical: Tensor
    ) -> tuple[Tensor, Tensor]:
        difference_rE1 = (text[:, 1] - text[:, 0]).unsqueeze(-1)
        margins_rN = TEMPERATURE / self.config.maps * (tokens[rows] @ difference_rE1).squeeze(-1)
        map_rHW = served_map(margins_rN, medical, self.config.clip.vision.grid, self.map_size)
        return map_rHW, image_score(map_rHW, image_logits(summary[rows], text), medical)


def zero_shot_parts(model: MoECLIP, map_size: tuple[int, int]) -> Iterator[Part]:
    """Vision, text and head, in evaluation mode."""
    model.eval()
    seen, read = ("tokens", "summary", "embedding"), ("features", "embedding")
    pairs = ("tokens", "summary", "rows", "text", "medical")
    yield Part("vision", Vision(model), ("image",), seen, axes=dict.fromkeys(("image", *seen), _PICTURES))
    yield Part("text", Text(model), ("tokens",), read, axes=dict.fromkeys(("tokens", *read), _PROMPTS))
    axes = {name: _PICTURES if name in seen else _ROWS for name in (*pairs, "map", "score")}
    yield Part("head", ZeroShotHead(model.config, map_size), pairs, ("map", "score"), exact=True, axes=axes)


@torch.no_grad()
def zero_shot_examples(config: MoECLIPConfig, key: str, batch: int) -> dict[str, Tensor]:
    """Random inputs of one graph: `batch` pictures or prompts, for the head two class names a picture."""
    random = torch.Generator().manual_seed(batch)
    if key == "vision":
        height, width = config.clip.vision.image_size
        return {"image": torch.randint(0, 256, (batch, height, width, 3), generator=random).to(torch.uint8)}
    if key == "text":
        return {"tokens": _random_prompts(config, batch, random)}
    patches, embedding = config.clip.vision.grid[0] * config.clip.vision.grid[1], config.clip.embedding
    units = F.normalize(torch.randn(batch, config.maps, patches, embedding, generator=random), dim=-1)
    rows = torch.arange(batch).repeat(2)
    return {
        "tokens": units.sum(1),
        "summary": F.normalize(torch.randn(batch, embedding, generator=random), dim=-1),
        "rows": rows,
        "text": F.normalize(torch.randn(len(rows), 2, embedding, generator=random), dim=-1),
        "medical": torch.arange(len(rows)) % 2 == 0,
    }


def class_tokens(checkpoint: Checkpoint[RunConfig], names: Iterable[str]) -> Tensor:
    """The ids (P, L) of all prompts of some class names."""
    filled = [PROMPTS[checkpoint.config.model.prompts].fill(name) for name in names]
    return token_ids(
        checkpoint.tokenizer, [prompt for one in filled for prompt in (*one.normal, *one.abnormal)]
    )


def zero_shot_spec(checkpoint: Checkpoint[RunConfig]) -> ZeroShotSpec:
    """How the service makes texts of class names."""
    prompts = PROMPTS[checkpoint.config.model.prompts]
    length = checkpoint.config.model.clip.text.context_length
    return ZeroShotSpec(context_length=length, normal=prompts.normal, abnormal=prompts.abnormal)


def _random_prompts(config: MoECLIPConfig, count: int, random: torch.Generator) -> Tensor:
    """Ids that end with the highest at any place, then zeros."""
    text = config.clip.text
    tokens = torch.randint(1, text.vocabulary - 1, (count, text.context_length), generator=random)
    end = torch.randint(2, text.context_length, (count, 1), generator=random)
    place = torch.arange(text.context_length)
    return tokens.where(place < end, 0).where(place != end, text.vocabulary - 1)
