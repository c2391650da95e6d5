"""Settings of every AnomalyMoE module: frozen, JSON-serialisable, composed in AnomalyMoEConfig."""

from typing import Literal

from pydantic import Field, model_validator

from training.backbones.base import Frozen


class RouterConfig(Frozen):
    """Routing by one matrix (hidden = None, Eq. 1) or by an MLP (the released weights).

    selection: `top_k` takes the K largest logits, `per_level` the largest one of each level in use. A linear
    router of the latter kind is decided by clustering before training, see `start_router`.
    """

    hidden: int | None = Field(default=256, gt=0)
    top_k: int = Field(default=3, gt=0)
    selection: Literal["top_k", "per_level"] = "top_k"

    @property
    def is_clustered(self) -> bool:
        """Whether the router is decided by clustering."""
        return self.selection == "per_level" and self.hidden is None


Scoring = Literal["paper", "calibrated"]


class GaussiansConfig(Frozen):
    """A patch expert in closed form: `count` Gaussians of normal patches on `channels` principal axes."""

    count: int = Field(default=32, gt=0)
    channels: int = Field(default=64, gt=0)


class PartConfig(Frozen):
    """A component expert in closed form: `size` normal parts, each by `channels` principal axes."""

    size: int = Field(default=2000, gt=0)
    channels: int = Field(default=24, gt=0)


class PatchConfig(Frozen):
    """`count` patch experts; noise_std is in units of the features.

    gaussians: in place of the decoder, for data sets too small to train one.
    """

    count: int = Field(default=6, ge=0)
    depth: int = Field(default=8, gt=0)
    heads: int = Field(default=12, gt=0)
    mlp_ratio: float = Field(default=4.0, gt=0)
    bottleneck_ratio: float = Field(default=4.0, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    noise_std: float = Field(default=0.1, ge=0)
    gaussians: GaussiansConfig | None = None


class ComponentConfig(Frozen):
    """`count` component experts with two hidden widths around the code.

    parts: in place of the autoencoder, for data sets too small to train one.
    """

    count: int = Field(default=6, ge=0)
    hidden: int = Field(default=256, gt=0)
    code: int = Field(default=64, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    parts: PartConfig | None = None


class ConvConfig(Frozen):
    """One stage: bilinear upsampling, convolution, ReLU, dropout, average pooling, each if asked for."""

    channels: int | Literal["width"]
    kernel: int = Field(gt=0)
    stride: int = Field(default=1, gt=0)
    padding: int = Field(default=0, ge=0)
    upsample: int | Literal["grid"] | None = None
    relu: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)
    pool: int = Field(default=1, gt=0)


class SubspaceConfig(Frozen):
    """A global expert in closed form: `code` principal components of at most `channels` mixed channels."""

    channels: int = Field(default=20, gt=0)
    code: int = Field(default=80, gt=0)


class GlobalConfig(Frozen):
    """`count` global experts; `student` scoring compares with a second network instead of F_target.

    subspace: in place of the convolutional autoencoder, for data sets too small to train one.
    """

    count: int = Field(default=6, ge=0)
    autoencoder: tuple[ConvConfig, ...] = ()
    subspace: SubspaceConfig | None = None
    student: tuple[ConvConfig, ...] | None = None
    scoring: Literal["target", "student"] = "target"

    @model_validator(mode="after")
    def _check(self) -> "GlobalConfig":
        if bool(self.autoencoder) == bool(self.subspace):
            raise ValueError("global_: exactly one of autoencoder and subspace must be given")
        if self.scoring == "student" and not self.student:
            raise ValueError(f"scoring 'student' needs a student network, got student={self.student}")
        return self


class EsbConfig(Frozen):
    """Expert selection balancing, Eq. 3; capacity = capacity_factor times the even load of an expert."""

    weight: float = Field(default=0.01, ge=0)
    importance: float = Field(default=1.0, ge=0)
    load: float = Field(default=1.0, ge=0)
    z: float = Field(default=1.0, ge=0)
    capacity_factor: float = Field(default=1.25, gt=0)


class EirConfig(Frozen):
    """Expert information repulsion, Eq. 4; `sampled` estimates the sum from one pair a step."""

    weight: float = Field(default=0.0001, ge=0)
    hidden: int = Field(default=256, gt=0)
    pairs: Literal["all_pairs", "sampled"] = "all_pairs"


class AnomalyMoEConfig(Frozen):
    """Everything but the encoder. Experts are numbered patch, component, global."""

    router: RouterConfig = RouterConfig()
    patch: PatchConfig = PatchConfig()
    component: ComponentConfig = ComponentConfig()
    global_: GlobalConfig
    esb: EsbConfig = EsbConfig()
    eir: EirConfig = EirConfig()

    @property
    def counts(self) -> tuple[int, int, int]:
        """Experts of each level, in router order."""
        return self.patch.count, self.component.count, self.global_.count

    @model_validator(mode="after")
    def _check(self) -> "AnomalyMoEConfig":
        top_k, experts = self.router.top_k, sum(self.counts)
        if top_k > experts:
            raise ValueError(f"top_k must not exceed the number of experts {experts}, got {top_k}")
        levels = sum(count > 0 for count in self.counts)
        if self.router.selection == "per_level" and top_k != levels:
            raise ValueError(f"top_k must be the number of levels in use {levels} per level, got {top_k}")
        closed_forms = {
            "patch.gaussians": self.patch.count and self.patch.gaussians,
            "component.parts": self.component.count and self.component.parts,
            "global_.subspace": self.global_.count and self.global_.subspace,
        }
        fitted = [name for name, is_used in closed_forms.items() if is_used]
        if fitted and not self.router.is_clustered:
            raise ValueError(
                f"{', '.join(fitted)} is fitted to the pictures of its expert before training: router needs "
                "hidden None and selection per_level, "
                f"got {self.router.hidden} and {self.router.selection}"
            )
        return self
