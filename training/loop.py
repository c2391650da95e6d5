"""Train router and experts: images -> encoder -> router -> active experts -> losses -> step."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training.anomalymoe.detector import AnomalyMoE
from training.anomalymoe.encoder import EncoderOutput
from training.anomalymoe.objective import Losses, Objective
from training.anomalymoe.warm_start import encode_pictures, fit_subspaces, start_router
from training.config import TrainConfig
from training.scoring import Centres, stack_centres
from training.stable_adamw import StableAdamW

Pictures = npt.NDArray[np.uint8]
OnStep = Callable[[int, Losses], None]


@dataclass(frozen=True, eq=False)
class NormalPictures:
    """All training pictures uint8 (n, H, W, 3), the product of each (n,), and the centres of each product."""

    pixels: Pictures
    products: npt.NDArray[np.int64]
    centres: Mapping[int, npt.NDArray[np.float32]]

    def centres_of(self, chosen: npt.NDArray[np.int64]) -> Centres:
        """Component centres of the products of the chosen pictures."""
        return stack_centres([self.centres[product] for product in self.products[chosen].tolist()])


def train_experts(detector: AnomalyMoE, data: NormalPictures, config: TrainConfig, on_step: OnStep) -> None:
    """Minimise Eq. 9 on random batches; the encoder is frozen, so each picture is encoded only once.

    Without steps when all is decided before them: a clustered router over subspaces alone.
    """
    torch.manual_seed(config.seed)
    detector.eval()
    products, encoded = torch.from_numpy(data.products), encode_pictures(detector, data.pixels)
    start_router(detector, encoded.cls, products, config.seed)
    fit_subspaces(detector, data.pixels, products, encoded, config.seed)
    if not any(parameter.requires_grad for parameter in detector.parameters()):
        return
    objective = Objective(detector).train()
    optimisers = _optimisers(objective, config)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(one, lambda step: learning_rate(step, config)) for one in optimisers
    ]
    for step, chosen in enumerate(_choices(len(data.pixels), config), start=1):
        image = detector.normalise(torch.from_numpy(data.pixels[chosen]))
        centres = data.centres_of(chosen)
        tokens = EncoderOutput(encoded.features[chosen], encoded.cls[chosen])
        losses: Losses = objective(image, centres.values, centres.valid, tokens)
        for optimiser in optimisers:
            optimiser.zero_grad()
        (losses.total + losses.estimation).backward()
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], config.gradient_clip)
            optimiser.step()
            schedule.step()
        on_step(step, losses)
    detector.eval()


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to `final_learning_rate`; as a share of the highest rate."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    floor = config.final_learning_rate
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def _optimisers(objective: Objective, config: TrainConfig) -> list[StableAdamW]:
    """One for router and experts, one for the CLUB estimators, if any, which follow their own likelihood."""
    learned = [parameter for parameter in objective.model.parameters() if parameter.requires_grad]
    groups = (learned, list(objective.repulsion.parameters()))
    rate, decay = config.learning_rate, config.weight_decay
    return [StableAdamW(group, lr=rate, weight_decay=decay) for group in groups if group]


def _choices(count: int, config: TrainConfig) -> Iterator[npt.NDArray[np.int64]]:
    """Row numbers of each batch: every picture once before any comes again."""
    rng = np.random.default_rng(config.seed)
    pool = np.empty(0, np.int64)
    for _ in range(config.steps):
        while len(pool) < config.batch_size:
            pool = np.concatenate([pool, rng.permutation(count)])
        chosen, pool = pool[: config.batch_size], pool[config.batch_size :]
        yield chosen
