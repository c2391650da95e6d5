"""All that decides a training run of MoECLIP, as one JSON-serialisable object."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from export.contract.manifest import InputSpec
from training.data.sets.samples import Split
from training.device import Precision
from training.moeclip.augment import AugmentConfig
from training.moeclip.auxiliary import Sampling
from training.moeclip.checkpoint import RunConfig
from training.moeclip.model.config import MoECLIPConfig


class MoECLIPTrainConfig(BaseModel):
    """How the adapters are trained (Sec. 5.1 and supplement B.3 of the MoECLIP paper).

    splits: whose pictures are trained on; the paper takes the test split of its auxiliary data set alone.
    steps: their number in place of `epochs` over all pictures. learning_rate: of Adam, times `decay` after
    each of `milestones` steps. etf_weight, balance_weight: lambdas of Eq. 16, 0 for without.
    precision: of the model; texts, maps and losses are always float32.
    half_weights: round what was trained to half-precision numbers, which bundles store at half the size.
    save_every: steps after which the state is saved, and that a stopped run loses at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    splits: tuple[Split, ...] = Field(default=("test",), min_length=1)
    epochs: float = Field(default=20, gt=0)
    steps: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=2, gt=0)
    learning_rate: float = Field(default=5e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    milestones: tuple[int, ...] = (16_000, 32_000)
    decay: float = Field(default=0.5, gt=0, le=1)
    etf_weight: float = Field(default=0.01, ge=0)
    balance_weight: float = Field(default=0.01, ge=0)
    sampling: Sampling = "plain"
    augment: AugmentConfig = AugmentConfig()
    precision: Precision = "float32"
    half_weights: bool = False
    save_every: int = Field(default=500, gt=0)
    seed: int = Field(default=0, ge=0)

    def total_steps(self, pictures: int) -> int:
        """Number of steps of a run over so many pictures."""
        return self.steps or max(1, round(self.epochs * pictures / self.batch_size))

    def rate(self, step: int) -> float:
        """Learning rate of a step, the first being 1."""
        passed = sum(step > milestone for milestone in self.milestones)
        return self.learning_rate * self.decay**passed


class MoECLIPFitConfig(RunConfig):
    """One training run of MoECLIP; `model.moe` null trains it without the experts, for comparison.

    input: by default the whole picture at the size of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: MoECLIPConfig = MoECLIPConfig()
    train: MoECLIPTrainConfig = MoECLIPTrainConfig()

    @model_validator(mode="before")
    @classmethod
    def _whole_picture(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "input" in values:
            return values
        model = MoECLIPConfig.model_validate(values.get("model", {}))
        height, width = model.clip.vision.image_size
        return {**values, "input": InputSpec(height=height, width=width)}
