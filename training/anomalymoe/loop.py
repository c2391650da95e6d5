"""Train router and experts: images -> encoder -> router -> active experts -> losses -> step."""

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import Tensor, nn

from training.anomalymoe.fit_config import TrainConfig
from training.anomalymoe.losses.objective import Losses, Objective, Outcome, Usage
from training.anomalymoe.model.component import Centres, stack_centres
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.warm_start import encode_pictures, fit_closed_forms, start_router
from training.backbones.base import EncoderOutput
from training.data.store import Pictures, take
from training.device import on_training_device, training_device
from training.distributed import (
    ParallelError,
    rank,
    same_everywhere,
    share_weights,
    sum_gradients,
    world_size,
)
from training.runs.resume import Resume, ResumeError
from training.stable_adamw import StableAdamW

Rows = npt.NDArray[np.int64]
OnStep = Callable[[int, Outcome], None]

KEPT_BYTES = 10**9  # of features
MOST_AT_START = 1000  # pictures that the router and the experts in closed form are started with


@dataclass(frozen=True, eq=False)
class NormalPictures:
    """All training pictures uint8 (n, H, W, 3), the product of each (n,), and the centres of each product."""

    pixels: Pictures
    products: npt.NDArray[np.int64]
    centres: Mapping[int, npt.NDArray[np.float32]]

    def take(self, rows: Rows | npt.NDArray[np.bool_]) -> "NormalPictures":
        """The pictures of the given numbers."""
        return NormalPictures(take(self.pixels, rows), self.products[rows], self.centres)

    def centres_of(self, chosen: Rows) -> Centres:
        """Component centres of the products of the chosen pictures."""
        return stack_centres([self.centres[product] for product in self.products[chosen].tolist()])


def train_experts(
    detector: AnomalyMoE,
    data: NormalPictures,
    config: TrainConfig,
    on_step: OnStep,
    resume: Resume,
    kept_bytes: int = KEPT_BYTES,
    *,
    progress: Progress | None = None,
) -> None:
    """Minimise Eq. 9 on random batches, going on from what `resume` holds; the encoder is frozen.

    What is random in a step follows from the seed and its number. There are no steps when nothing is left to
    learn: a clustered router over experts in closed form. The detector is left on the CPU.
    kept_bytes: the features of all pictures are kept when they need no more.
    Raises ParallelError when a batch cannot be shared evenly, ResumeError for a state that cannot be used.
    """
    torch.manual_seed(config.seed)
    device = training_device()
    encoded = _encode_all(detector.to(device).eval(), data.pixels, kept_bytes, progress)
    if detector.router.config.is_clustered:
        _warm_start(detector, data, encoded, config, progress)
    detector.cpu()
    share_weights(detector)
    if not any(one.requires_grad for one in detector.parameters()):
        detector.cpu()
        return
    trainer = Trainer(Objective(detector, config.precision).to(device).train(), data, encoded, config)
    parts = trainer.parts
    done = resume.load(parts)
    if not same_everywhere(done):
        raise ResumeError(f"{resume.path}: not seen by all processes, which must share the folder")
    batches = enumerate(_choices(len(data.pixels), config), start=1)
    for step, chosen in islice(batches, done, None):
        on_step(step, trainer.step(step, chosen))
        resume.save(step, parts)
    detector.cpu().eval()


class Trainer:
    """The objective, its two optimisers and the pictures: all that a step needs.

    encoded: what the encoder says about all pictures; None to encode each batch as it comes.
    """

    def __init__(
        self, objective: Objective, data: NormalPictures, encoded: EncoderOutput | None, config: TrainConfig
    ) -> None:
        self.objective, self.data, self.encoded, self.config = objective, data, encoded, config
        # One for router and experts, one for the CLUB estimators, if any, which follow their own likelihood.
        groups = {
            "optimiser": [one for one in objective.model.parameters() if one.requires_grad],
            "estimator_optimiser": list(objective.repulsion.parameters()),
        }
        self.groups = {name: group for name, group in groups.items() if group}
        self.optimisers = {
            name: StableAdamW(group, lr=config.learning_rate, weight_decay=config.weight_decay)
            for name, group in self.groups.items()
        }

    @property
    def parts(self) -> dict[str, nn.Module | StableAdamW]:
        """All that steps change; the encoder is not among it."""
        model, repulsion = self.objective.model, self.objective.repulsion
        return {
            "router": model.router,
            "experts": model.experts,
            "estimators": repulsion,
            **self.optimisers,
        }

    def step(self, step: int, chosen: Rows) -> Outcome:
        """One step on the pictures of the whole batch, of which this process sees its share."""
        torch.manual_seed(_step_seed(self.config.seed, step))
        pairs = self.objective.repulsion.choose_pairs()
        torch.manual_seed(_step_seed(self.config.seed, step, 1 + rank()))
        self.objective.zero_grad()
        outcomes: list[Outcome] = []
        for own in _share(chosen, self.config):
            outcome: Outcome = self.objective(*self._look_up(own), pairs, self._encoded(own))
            losses = outcome.losses
            ((losses.total + losses.estimation) / self.config.accumulate).backward()
            outcomes.append(_detached(outcome))
        self._update(step)
        return _mean(outcomes)

    def _update(self, step: int) -> None:
        rate = self.config.learning_rate * learning_rate(step - 1, self.config)
        for name, optimiser in self.optimisers.items():
            group = self.groups[name]
            sum_gradients(group)
            nn.utils.clip_grad_norm_(group, self.config.gradient_clip)
            optimiser.param_groups[0]["lr"] = rate
            optimiser.step()

    def _look_up(self, own: Rows) -> tuple[Tensor, Tensor, Tensor]:
        image = self.objective.model.normalise(torch.from_numpy(self.data.pixels[own]))
        centres = self.data.centres_of(own)
        return image, centres.values.to(image.device), centres.valid.to(image.device)

    def _encoded(self, own: Rows) -> EncoderOutput | None:
        if self.encoded is None:
            return None
        return EncoderOutput(*(part.to(training_device()) for part in _rows_of(self.encoded, own)))


def _rows_of(encoded: EncoderOutput, rows: Rows) -> EncoderOutput:
    return EncoderOutput(*(part[rows] for part in encoded))


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to `final_learning_rate`; as a share of the highest rate."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    floor = config.final_learning_rate
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def _encode_all(
    detector: AnomalyMoE, pixels: Pictures, kept_bytes: int, progress: Progress | None = None
) -> EncoderOutput | None:
    """What the encoder says about all pictures, as none changes; None when that is too much to keep."""
    encoder = detector.encoder
    tokens = encoder.prefix_tokens + math.prod(encoder.grid)
    fits = len(pixels) * tokens * encoder.width * 4 <= kept_bytes
    return encode_pictures(detector, pixels, progress) if fits else None


def _warm_start(
    detector: AnomalyMoE,
    data: NormalPictures,
    encoded: EncoderOutput | None,
    config: TrainConfig,
    progress: Progress | None,
) -> None:
    sample, encoded = _sample(detector, data, encoded, config, progress)
    detector.cpu()
    start_router(detector, encoded.cls, torch.from_numpy(sample.products), config.seed)
    _fit_closed_forms(detector, sample, encoded, config, progress)


def refitted(detector: AnomalyMoE, data: NormalPictures, config: TrainConfig) -> AnomalyMoE:
    """A detector whose experts in closed form know only these pictures; itself when it has none."""
    if all(any(True for _ in expert.parameters()) for expert in detector.experts):
        return detector
    copied = deepcopy(detector)
    with on_training_device(copied):
        sample, encoded = _sample(copied, data, None, config)
    _fit_closed_forms(copied, sample, encoded, config)
    return copied


def _sample(
    detector: AnomalyMoE,
    data: NormalPictures,
    encoded: EncoderOutput | None,
    config: TrainConfig,
    progress: Progress | None = None,
) -> tuple[NormalPictures, EncoderOutput]:
    """At most MOST_AT_START random pictures, encoded."""
    count = len(data.pixels)
    rows = np.sort(np.random.default_rng(config.seed).permutation(count)[:MOST_AT_START])
    if encoded is not None and len(rows) == count:
        return data, encoded
    data = data.take(rows)
    if encoded is not None:
        return data, _rows_of(encoded, rows)
    return data, encode_pictures(detector, data.pixels, progress)


@torch.no_grad()
def _fit_closed_forms(
    detector: AnomalyMoE,
    sample: NormalPictures,
    encoded: EncoderOutput,
    config: TrainConfig,
    progress: Progress | None = None,
) -> None:
    products = torch.from_numpy(sample.products)
    fit_closed_forms(
        detector, sample.pixels, products, encoded, sample.centres_of, config.seed, progress=progress
    )


def _choices(count: int, config: TrainConfig) -> Iterator[Rows]:
    """Row numbers of each batch: every picture once before any comes again."""
    rng = np.random.default_rng(config.seed)
    pool = np.empty(0, np.int64)
    for _ in range(config.steps):
        while len(pool) < config.batch_size:
            pool = np.concatenate([pool, rng.permutation(count)])
        chosen, pool = pool[: config.batch_size], pool[config.batch_size :]
        yield chosen


def _share(chosen: Rows, config: TrainConfig) -> Iterator[Rows]:
    """This process's share of each micro-batch."""
    shares = config.accumulate * world_size()
    if len(chosen) % shares:
        raise ParallelError(
            f"train.batch_size must be a multiple of accumulate times processes "
            f"{config.accumulate} * {world_size()}, got {len(chosen)}"
        )
    return iter(chosen.reshape(config.accumulate, world_size(), -1)[:, rank()])


def _step_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _detached(outcome: Outcome) -> Outcome:
    losses, usage = ([part.detach() for part in group] for group in outcome)
    return Outcome(Losses(*losses), Usage(*usage))


def _mean(outcomes: list[Outcome]) -> Outcome:
    """The mean of what the micro-batches say."""
    losses, usage = (
        [torch.stack(parts).mean(0) for parts in zip(*group, strict=True)]
        for group in zip(*outcomes, strict=True)
    )
    return Outcome(Losses(*losses), Usage(*usage))
