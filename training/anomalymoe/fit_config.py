"""All that decides a training run, as one JSON-serialisable object, and the presets behind `--backbone`."""

from collections.abc import Collection
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from export.contract.manifest import InputSpec, Level
from training.anomalymoe.model.config import (
    AnomalyMoEConfig,
    ComponentConfig,
    EirConfig,
    GaussiansConfig,
    GlobalConfig,
    PartConfig,
    PatchConfig,
    RouterConfig,
    Scoring,
    SubspaceConfig,
)
from training.anomalymoe.presets import OFFICIAL_AUTOENCODER
from training.backbones.conv import ConvEncoderConfig
from training.backbones.offline.encoder import OfflineConfig
from training.backbones.offline.pretext import PretextConfig
from training.backbones.vit import ViTConfig
from training.data.pictures import JPEG_QUALITIES
from training.device import Precision

BackboneName = Literal["efficientnet-lite0", "offline", "dinov2-base", "dinov2-reg-base"]
EncoderConfig = ConvEncoderConfig | OfflineConfig | ViTConfig

_ENCODERS: dict[BackboneName, type[EncoderConfig]] = {
    "efficientnet-lite0": ConvEncoderConfig,
    "offline": OfflineConfig,
    "dinov2-base": ViTConfig,
    "dinov2-reg-base": ViTConfig,
}


class TrainConfig(BaseModel):
    """How router and experts are trained (`Implementation Details` of the AnomalyMoE paper).

    batch_size: pictures of a step over all processes. accumulate: parts it is computed in, one after the
    other; the counts and mean gates of Eq. 3 and the unmatched samples of Eq. 4 are then those of a part.
    precision: of encoder and experts; the router and the losses are always float32.
    save_every: steps after which the state is saved, and that a stopped run loses at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=50_000, gt=0)
    batch_size: int = Field(default=16, gt=0)
    learning_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_steps: int = Field(default=100, ge=0)
    final_learning_rate: float = Field(default=0.01, ge=0, le=1)  # as a share of learning_rate
    gradient_clip: float = Field(default=0.1, gt=0)
    accumulate: int = Field(default=1, gt=0)
    precision: Precision = "float32"
    save_every: int = Field(default=500, gt=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "TrainConfig":
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size must be a multiple of accumulate {self.accumulate}, got {self.batch_size}"
            )
        return self


class DataConfig(BaseModel):
    """How pictures are read. memory_gb: for pictures and features that are kept, half for each.

    workers: threads that read pictures. jpeg: lowest and highest quality at which half of the normal pictures
    of lossless files are compressed first, since a product may be sent either way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_gb: float = Field(default=2.0, gt=0)
    workers: int = Field(default=4, gt=0)
    jpeg: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.jpeg is not None and not 1 <= self.jpeg[0] <= self.jpeg[1] <= 100:
            raise ValueError(f"jpeg must be two qualities from 1 to 100, the lower first, got {self.jpeg}")
        return self

    @property
    def kept_bytes(self) -> int:
        """How much of either is kept."""
        return int(self.memory_gb * 1e9 / 2)


class CalibrationConfig(BaseModel):
    """How normal pictures that took no part in training become thresholds.

    holdout: share of them; with 0 all train, and each is scored by experts in closed form fitted on others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    holdout: float = Field(default=0.25, ge=0, lt=1)
    components: int = Field(default=8, gt=0)
    alpha: float = Field(default=0.01, gt=0, lt=1)


class FitConfig(BaseModel):
    """One training run of AnomalyMoE; `pretext` only for a backbone that is trained from scratch.

    resolution: `auto` takes a finer encoder than that of `efficientnet-lite0` where only it shows synthetic
    defects on large pictures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: BackboneName
    encoder: EncoderConfig
    input: InputSpec
    map_size: tuple[int, int] = (256, 256)
    resolution: Literal["auto", "fixed"] = "auto"
    scoring: Scoring = "paper"
    pretext: PretextConfig | None = None
    detector: AnomalyMoEConfig
    train: TrainConfig = TrainConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    data: DataConfig = DataConfig()

    @model_validator(mode="after")
    def _check(self) -> "FitConfig":
        is_offline = self.backbone == "offline"
        if not isinstance(self.encoder, _ENCODERS[self.backbone]):
            raise ValueError(f"encoder must be that of backbone {self.backbone!r}, got {self.encoder}")
        if (self.pretext is not None) != is_offline:
            raise ValueError(
                f"pretext belongs to backbone 'offline', got {self.backbone!r} and {self.pretext}"
            )
        groups = len(self.encoder.fuse_groups) if isinstance(self.encoder, ViTConfig) else 1
        depth = self.detector.patch.depth
        if depth % groups:
            raise ValueError(
                f"detector.patch.depth must be a multiple of the {groups} fuse groups, got {depth}"
            )
        if self.encoder.image_size != (self.input.height, self.input.width):
            size = (self.input.height, self.input.width)
            raise ValueError(f"input must have the encoder's size {self.encoder.image_size}, got {size}")
        return self


def preset(backbone: BackboneName) -> FitConfig:
    """The settings of a backbone: the paper's model for DINOv2, one that trains on a CPU for the others."""
    if backbone in ("efficientnet-lite0", "offline"):
        return _small(backbone)
    return FitConfig(
        backbone=backbone,
        encoder=ViTConfig(registers=4 if backbone == "dinov2-reg-base" else 0),
        input=InputSpec(height=392, width=392),
        detector=AnomalyMoEConfig(
            router=RouterConfig(hidden=None), global_=GlobalConfig(autoencoder=OFFICIAL_AUTOENCODER)
        ),
    )


def with_levels(config: FitConfig, levels: Collection[Level]) -> FitConfig:
    """The same run with the experts of some levels only (Table 2 of the AnomalyMoE paper).

    Raises ValueError when no level is left.
    """
    counts = {"patch": "patch", "component": "component", "global": "global_"}
    absent = [field for level, field in counts.items() if level not in levels]
    detector = config.detector.model_dump()
    for field in absent:
        detector[field]["count"] = 0
    experts = sum(detector[field]["count"] for field in counts.values())
    if not experts:
        raise ValueError(
            f"levels: at least one of {', '.join(counts)} is needed, got {', '.join(levels) or 'none'}"
        )
    used = len(counts) - len(absent)
    per_level = config.detector.router.selection == "per_level"
    detector["router"]["top_k"] = used if per_level else min(config.detector.router.top_k, experts)
    return config.model_copy(update={"detector": AnomalyMoEConfig.model_validate(detector)})


def _small(backbone: Literal["efficientnet-lite0", "offline"]) -> FitConfig:
    encoder = OfflineConfig() if backbone == "offline" else ConvEncoderConfig(stages=(1, 2, 3), colours=True)
    height, width = encoder.image_size
    return FitConfig(
        backbone=backbone,
        encoder=encoder,
        input=InputSpec(height=height, width=width),
        scoring="calibrated",
        pretext=PretextConfig() if backbone == "offline" else None,
        detector=AnomalyMoEConfig(
            router=RouterConfig(hidden=None, top_k=3, selection="per_level"),
            patch=PatchConfig(
                count=3,
                depth=1,
                heads=4,
                mlp_ratio=1,
                bottleneck_ratio=0.125,
                noise_std=1.5,
                gaussians=GaussiansConfig(),
            ),
            component=ComponentConfig(count=3, hidden=64, code=16, parts=PartConfig()),
            global_=GlobalConfig(count=3, subspace=SubspaceConfig()),
            eir=EirConfig(pairs="sampled"),
        ),
        train=TrainConfig(steps=300, learning_rate=2e-3, gradient_clip=1.0, save_every=50),
        calibration=CalibrationConfig(components=16),
        data=DataConfig(jpeg=JPEG_QUALITIES),
    )
