"""Pictures and class names to maps and scores with the torch model, as the service computes them.

Legend: B pictures, S maps (layers times scales), N patches, E embedding, H W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from training.data.pictures import Sample, load_picture
from training.device import on_training_device
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.model.maps import (
    TEMPERATURE,
    image_logits,
    image_score,
    margin_map,
    margins,
    patch_logits,
    released_score,
    score_margin,
    served_map,
)
from training.moeclip.model.texts import ClassTexts

Domain = Literal["industrial", "medical"]
Ranking = Literal["serving", "paper", "moeclip"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
BATCH = 8


class PictureScores(NamedTuple):
    """score (B,) and peak (B,), the highest value of the map, 0..1 as served; margins: maps (B, H, W).

    patches (B, N): before they are smoothed. logits (B, 2): 100 x cosine of the image token with both texts.
    released (B,): `released_score`.
    A map is served as the sigmoid of its margins, which ends all distinctions among values near 1: pixels are
    sorted by margins, and pictures by `ranking`.
    """

    score: Tensor
    peak: Tensor
    margins: Tensor
    patches: Tensor
    logits: Tensor
    released: Tensor

    @property
    def highest(self) -> Tensor:
        """The largest margin of each map, (B,)."""
        return self.margins.flatten(1).amax(1)


def ranking(
    highest_B: Tensor, logits_B2: Tensor, released_B: Tensor, by: Ranking, *, medical: bool
) -> Tensor:
    """What pictures are sorted by, float64 (B,), by what `PictureScores` holds of them.

    serving: the logit of the served score. paper: Eq. 14, the cosine with the anomalous text. moeclip:
    the released evaluation's, of industrial pictures the mean of highest pixel and image score, each
    brought to 0..1 over these pictures (the map, some hundred times as large, would decide alone); of
    medical ones the highest pixel.
    """
    highest_B = highest_B.double()
    if by == "serving":
        return score_margin(highest_B, logits_B2, torch.tensor(medical))
    if by == "paper":
        return logits_B2[:, 1].double() / TEMPERATURE
    return highest_B if medical else (_min_max(highest_B) + _min_max(released_B.double())) / 2


class Scorer:
    """A run with the texts of the class names that it is asked for."""

    def __init__(
        self, run: Checkpoint[RunConfig], names: Sequence[str], domain: Domain, batch: int = BATCH
    ) -> None:
        self.run, self.batch = run, batch
        self.domain: Domain = domain
        self.texts = ClassTexts(run.model, run.tokenizer, names)

    @torch.inference_mode()
    def score(self, pixels: Tensor, names: Sequence[str], size: tuple[int, int]) -> PictureScores:
        """uint8 pictures (B, H, W, 3), each with its class name; size: (H, W) of the maps."""
        model, text_B2E = self.run.model, self.texts.of(names)
        seen = model(model.normalise(pixels))
        margins_BN = margins(patch_logits(seen.tokens, text_B2E))
        medical_B = torch.full((len(pixels),), self.domain == "medical", device=margins_BN.device)
        map_BHW = served_map(margins_BN, medical_B, model.grid, size)
        logits_B2 = image_logits(seen.summary, text_B2E)
        score_B = image_score(map_BHW, logits_B2, medical_B)
        margins_BHW = margin_map(margins_BN, medical_B, model.grid, size)
        peak_B = map_BHW.flatten(1).amax(1)
        released_B = released_score(seen.summary, text_B2E)
        parts = (score_B, peak_B, margins_BHW, margins_BN, logits_B2, released_B)
        return PictureScores(*(part.cpu() for part in parts))

    def score_batch(self, samples: Sequence[Sample], size: tuple[int, int]) -> PictureScores:
        """A few pictures."""
        pixels = np.stack([load_picture(one.path, self.run.config.input) for one in samples])
        return self.score(torch.from_numpy(pixels), [class_name(one) for one in samples], size)

    def score_samples(
        self, samples: Sequence[Sample], size: tuple[int, int], progress: Progress, description: str
    ) -> Iterator[PictureScores]:
        """All pictures, a batch at a time."""
        with on_training_device(self.run.model):
            for start in progress.track(range(0, len(samples), self.batch), description=description):
                yield self.score_batch(samples[start : start + self.batch], size)


def joined(parts: Iterator[PictureScores]) -> PictureScores:
    """The scores of all batches."""
    return PictureScores(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _min_max(values_B: Tensor) -> Tensor:
    span = values_B.max() - values_B.min()
    return (values_B - values_B.min()) / span.clamp(min=torch.finfo(span.dtype).tiny)
