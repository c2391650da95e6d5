"""Train the offline backbone to find synthetic defects on normal pictures, then freeze it.

The segmentation head is thrown away: alone it is fickle. What stays are the features, as the average of the
weights over the last steps, taken at the step where they separate held-out normal pictures from the same
pictures with synthetic defects best. No real defect is seen, and none is needed to know when to stop.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from training.backbones.base import top_mean
from training.backbones.offline.defects import add_noise, corrupt, damage, vary
from training.backbones.offline.encoder import FEATURE_OFFSET, OfflineConfig, OfflineEncoder
from training.data.store import Pictures
from training.metrics import auroc
from training.runs.resume import Resume

SUBCELLS = 2  # the segmentation head sees a patch as 2 x 2 cells
THUMBNAIL = 8
CHECKED_PICTURES = 96


class PretextConfig(BaseModel):
    """How the offline backbone is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=2000, gt=0)
    batch_size: int = 8
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    undamaged: float = 0.15  # share of pictures that are left without a defect
    thumbnail_weight: float = 0.1
    ema_decay: float = 0.99
    checks: int = 8
    save_every: int = Field(default=100, gt=0)  # steps that a stopped run loses at most
    seed: int = 0


@dataclass(frozen=True)
class Check:
    """Progress at one step: the loss, and the AUROC of synthetic defects on held-out pictures."""

    step: int
    loss: float
    auroc: float


class PretextModel(nn.Module):
    """The encoder with the two heads of the pretext."""

    def __init__(self, config: OfflineConfig) -> None:
        super().__init__()
        width = config.width
        self.encoder = OfflineEncoder(config)
        self.norm = nn.LayerNorm(width)
        self.segmentation = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, SUBCELLS**2))
        self.thumbnail = nn.Linear(width, 3 * THUMBNAIL**2)

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Defect logits (B, 1, 2h, 2w) and a thumbnail of the undamaged picture (B, 3, 8, 8)."""
        tokens_BTD = self.norm(self.encoder.block_outputs(image_BCHW)[-1])
        logits_BNC = self.segmentation(tokens_BTD[:, 1:])
        logits_BChw = logits_BNC.transpose(1, 2).unflatten(-1, self.encoder.grid)
        thumbnail = self.thumbnail(tokens_BTD[:, 0]).unflatten(-1, (3, THUMBNAIL, THUMBNAIL))
        return F.pixel_shuffle(logits_BChw, SUBCELLS), thumbnail


def pretext_loss(
    model: PretextModel, damaged: Tensor, mask: Tensor, clean: Tensor, config: PretextConfig
) -> Tensor:
    """Find the defect (cross-entropy and dice), and sum up the undamaged picture in the cls token.

    damaged, clean: normalised pictures (B, 3, H, W); mask (B, 1, H, W), 1 where the picture was damaged.
    """
    logits, thumbnail = model(damaged)
    wanted = F.adaptive_avg_pool2d(mask, logits.shape[-2:])
    found = logits.sigmoid()
    overlap = 2 * (found * wanted).sum((1, 2, 3)) + 1
    dice = 1 - overlap / ((found + wanted).sum((1, 2, 3)) + 1)
    return (
        F.binary_cross_entropy_with_logits(logits, wanted)
        + 0.3 * dice.mean()
        + config.thumbnail_weight * F.l1_loss(thumbnail, F.adaptive_avg_pool2d(clean, THUMBNAIL))
    )


def train_backbone(
    pictures: Pictures,
    held_out: Pictures,
    encoder: OfflineConfig,
    config: PretextConfig,
    on_step: Callable[[int, float], None],
    resume: Resume,
) -> tuple[OfflineEncoder, list[Check]]:
    """Train on normal pictures (n, H, W, 3) and stop by held-out normal pictures (m, H, W, 3).

    Goes on from what `resume` holds. Returns the frozen encoder and the checks that chose it.
    """
    torch.manual_seed(config.seed)
    model = PretextModel(encoder)
    average = deepcopy(model).eval()
    optimiser = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, config.steps, pct_start=min(0.9, max(0.1, 2 / config.steps))
    )
    best = _BestEncoder(average.encoder, _HeldOutCheck(pictures, held_out, config))
    parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule, "best": best}
    done = resume.load(parts)
    for step, (damaged, mask, clean) in enumerate(_batches(pictures, config, done), start=done + 1):
        loss = pretext_loss(model.train(), damaged, mask, clean, config)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _average_weights(average, model, min(config.ema_decay, (1 + step) / (10 + step)))
        on_step(step, loss.item())
        if step % max(1, config.steps // config.checks) == 0 or step == config.steps:
            best.consider(step, loss.item(), average.encoder)
        resume.save(step, parts)
    best.encoder.standardise(_normalised(pictures))
    return best.encoder.requires_grad_(False).eval(), best.checks


def normalise(pictures: npt.NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) as the offline encoder expects it."""
    images = torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (OfflineEncoder.mean, OfflineEncoder.std))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


class _HeldOutCheck:
    """How well the deviation of the features from normal tells damaged from clean held-out pictures."""

    def __init__(self, pictures: Pictures, held_out: Pictures, config: PretextConfig) -> None:
        rng = np.random.default_rng(config.seed + 1)
        clean = held_out[rng.permutation(len(held_out))[:CHECKED_PICTURES]]
        self.probe = np.concatenate([clean, damage(rng, clean)])
        self.labels = np.repeat([False, True], len(clean))
        self.normal = pictures[rng.permutation(len(pictures))[:CHECKED_PICTURES]]

    @torch.no_grad()
    def __call__(self, encoder: OfflineEncoder) -> float:
        encoder.standardise(_normalised(self.normal))
        scores = []
        for batch in _normalised(self.probe):
            deviation_BND = encoder(batch).features[:, 1:] - FEATURE_OFFSET
            error_BN = deviation_BND.square().mean(-1)
            scores.append(top_mean(error_BN))
        return auroc(self.labels, torch.cat(scores).numpy())


class _BestEncoder:
    """The encoder of the best check so far, the later one of equals, and all checks."""

    def __init__(self, encoder: OfflineEncoder, check: _HeldOutCheck) -> None:
        self.encoder, self.check = deepcopy(encoder), check
        self.checks: list[Check] = []

    def consider(self, step: int, loss: float, encoder: OfflineEncoder) -> None:
        self.checks.append(Check(step, loss, self.check(encoder)))
        if self.checks[-1].auroc >= max(past.auroc for past in self.checks):
            self.encoder = deepcopy(encoder)

    def state_dict(self) -> dict[str, Any]:
        return {"encoder": self.encoder.state_dict(), "checks": [asdict(check) for check in self.checks]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.encoder.load_state_dict(state_dict["encoder"])
        self.checks = [Check(**check) for check in state_dict["checks"]]


class _DamagedPictures(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batch number i of the pretext: the same for the same seed, whoever draws it."""

    def __init__(self, pictures: Pictures, config: PretextConfig) -> None:
        self.pictures, self.config = pictures, config

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.config.seed, step))
        drawn = [self._draw(rng) for _ in range(self.config.batch_size)]
        damaged, mask, clean = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
        return (
            normalise(torch.from_numpy(damaged)),
            torch.from_numpy(mask)[:, None],
            normalise(torch.from_numpy(clean)),
        )

    def _draw(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], ...]:
        clean = vary(rng, self.pictures[rng.integers(len(self.pictures))])
        if rng.random() < self.config.undamaged:
            return add_noise(rng, clean), np.zeros(clean.shape[:2], np.float32), clean
        donor = self.pictures[rng.integers(len(self.pictures))].astype(np.float32)
        damaged, mask = corrupt(rng, clean, donor)
        return add_noise(rng, damaged), mask, clean


def _batches(pictures: Pictures, config: PretextConfig, done: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The batches after those of the steps done."""
    left = range(done, config.steps)
    batches = _DamagedPictures(pictures, config)
    return iter(DataLoader(batches, batch_size=None, sampler=left, num_workers=1, prefetch_factor=8))


def _normalised(pictures: Pictures, size: int = 32) -> Iterator[Tensor]:
    return (normalise(pictures[start : start + size]) for start in range(0, len(pictures), size))


@torch.no_grad()
def _average_weights(average: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        kept.lerp_(new, 1 - decay) if kept.dtype.is_floating_point else kept.copy_(new)
