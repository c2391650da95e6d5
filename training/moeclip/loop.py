"""Train the adapters: pictures -> augment -> CLIP with experts -> maps -> losses -> step.

Legend: B batch, S maps (layers times scales), N patches, E embedding, H W pixels.
"""

from collections.abc import Callable
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from training.device import training_device
from training.distributed import (
    ParallelError,
    gather,
    rank,
    same_everywhere,
    share_weights,
    sum_gradients,
    world_size,
)
from training.moeclip.augment import augment
from training.moeclip.auxiliary import AuxiliarySet, batches
from training.moeclip.fit_config import MoECLIPTrainConfig
from training.moeclip.losses.objective import Evidence, Losses, LossWeights, Supervision, total_loss
from training.moeclip.model.detector import MoECLIP, Seen
from training.moeclip.model.lora_moe import top_gates
from training.moeclip.model.maps import image_logits, patch_logits, training_maps
from training.moeclip.model.texts import ClassTexts
from training.runs.resume import Resume, ResumeError

Rows = npt.NDArray[np.int64]
Curves = dict[str, Tensor]


class DivergedError(ValueError):
    """Training that leads nowhere any more; the message names the step and the loss."""


def train_adapters(
    detector: MoECLIP,
    tokenizer: Tokenizer,
    data: AuxiliarySet,
    config: MoECLIPTrainConfig,
    on_step: Callable[[int, Curves], None],
    resume: Resume,
) -> None:
    """Minimise Eq. 16 on random batches, going on from what `resume` holds; CLIP and every A are frozen.

    What is random in a step follows from the seed and its number. The detector is left on the CPU in
    evaluation mode. Under torchrun each process takes its share of every batch. Raises DivergedError for a
    loss that is not finite, ResumeError for a state that cannot be used, ParallelError for a batch that the
    processes cannot share.
    """
    if config.batch_size % world_size():
        raise ParallelError(
            f"train.batch_size must be a multiple of the processes {world_size()}, got {config.batch_size}"
        )
    share_weights(detector)
    trainer = Trainer(detector.to(training_device()), tokenizer, data, config)
    done = resume.load(trainer.parts)
    if not same_everywhere(done):
        raise ResumeError(f"{resume.path}: not seen by all processes, which must share the folder")
    choices = enumerate(batches(data, config.batch_size, config.sampling, config.seed), start=1)
    for step, rows in islice(choices, done, config.total_steps(len(data))):
        on_step(step, trainer.step(step, rows))
        resume.save(step, trainer.parts)
    detector.cpu().eval()


class Trainer:
    """The detector in training mode, its optimiser and the pictures: all that a step needs."""

    def __init__(
        self, detector: MoECLIP, tokenizer: Tokenizer, data: AuxiliarySet, config: MoECLIPTrainConfig
    ) -> None:
        self.detector, self.data, self.config = training_mode(detector), data, config
        self.device = detector.mean.device
        self.texts = ClassTexts(detector, tokenizer, data.names)
        self.weights = LossWeights(config.etf_weight, config.balance_weight)
        self.optimiser = torch.optim.Adam(detector.adapters(), lr=config.learning_rate, betas=config.betas)

    @property
    def parts(self) -> dict[str, nn.Module | torch.optim.Adam]:
        """All that steps change; CLIP is not among it."""
        adapters = {name: part for name, part in self.detector.named_children() if name != "clip"}
        return {**adapters, "optimiser": self.optimiser}

    def step(self, step: int, rows: Rows) -> Curves:
        """One step on the chosen pictures, of which this process sees its share; returns losses and use."""
        own = rows.reshape(world_size(), -1)[rank()]
        image, truth = self.look_up(step, own)
        losses, seen = self.losses(image, [self.data.names[row] for row in own], truth)
        if not losses.total.isfinite():
            raise DivergedError(
                f"the loss is {losses.total.item()} at step {step}; a lower train.learning_rate may help"
            )
        self.optimiser.zero_grad()
        losses.total.backward()
        sum_gradients([*self.detector.adapters()])
        self.optimiser.param_groups[0]["lr"] = self.config.rate(step)
        self.optimiser.step()
        terms = {f"loss/{name}": term.detach() for name, term in losses._asdict().items()}
        return terms | use(self.detector, seen)

    def look_up(self, step: int, rows: Rows) -> tuple[Tensor, Supervision]:
        """Normalised pictures (B, 3, H, W), augmented, and what is known of them."""
        rng = np.random.default_rng((self.config.seed, step, rank()) if rank() else (self.config.seed, step))
        torch.manual_seed(int(rng.integers(2**62)))  # of the dropout
        pixels, masks = (torch.from_numpy(part).to(self.device) for part in self.data.load(rows))
        picture, mask = augment(pixels.permute(0, 3, 1, 2) / 255, masks.float(), self.config.augment, rng)
        is_lost = masks.flatten(1).any(1) & ~mask.flatten(1).any(1)  # a defect moved out of the picture
        is_anomalous = torch.from_numpy(self.data.is_anomalous[rows]).to(self.device) & ~is_lost
        image = (picture - self.detector.mean) / self.detector.std
        return image, Supervision(mask, is_anomalous.float())

    def losses(self, image: Tensor, names: list[str], truth: Supervision) -> tuple[Losses, Seen]:
        """What a batch costs, and what the model makes of it; names: the class of each picture."""
        is_half = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_half):
            seen = self.detector(image, by_expert=True)
        text_B2E = self.texts.of(names)
        own = evidence(self.detector, seen, text_B2E)
        return total_loss(_of_all(own), Supervision(*map(gather, truth)), self.weights), seen


def training_mode(detector: MoECLIP) -> MoECLIP:
    """Adapters as in training, with the dropout of the experts; CLIP as in evaluation."""
    detector.train().clip.eval()
    return detector


def evidence(detector: MoECLIP, seen: Seen, text_B2E: Tensor) -> Evidence:
    """What the losses need of a pass `by_expert`, in float32."""
    logits_BSN2 = patch_logits(seen.tokens.float(), text_B2E)
    maps_BS2HW = training_maps(logits_BSN2, detector.grid, detector.config.clip.vision.image_size)
    return Evidence(
        maps=maps_BS2HW.unbind(1),
        image_logits=image_logits(seen.summary.float(), text_B2E),
        experts=[one.expert_outputs for one in seen.moe if one.expert_outputs is not None],
        routing=[one.probabilities for one in seen.moe],
    )


def _of_all(own: Evidence) -> Evidence:
    """What all processes have of the whole batch, whose statistics the losses take."""
    return Evidence(
        maps=[gather(one) for one in own.maps],
        image_logits=gather(own.image_logits),
        experts=[gather(one) for one in own.experts],
        routing=[gather(one) for one in own.routing],
    )


def use(detector: MoECLIP, seen: Seen) -> Curves:
    """Share of the tokens that choose each expert, by layer."""
    if detector.config.moe is None:
        return {}
    top_k = detector.config.moe.top_k
    return {
        f"share/layer-{layer}/expert-{number}": share
        for layer, one in zip(detector.config.layers, seen.moe, strict=True)
        for number, share in enumerate(
            (top_gates(one.probabilities.detach(), top_k) > 0).float().mean((0, 1))
        )
    }
