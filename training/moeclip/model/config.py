"""Settings of every MoECLIP module: frozen, JSON-serialisable, composed in MoECLIPConfig."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

RGB = tuple[float, float, float]
Activation = Literal["gelu", "quick_gelu"]
Prompts = Literal["paper", "released"]

LEAST_GRID = 5  # the 9 x 9 Gaussian of medical maps reflects 4 patches at the border


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VisionConfig(_Frozen):
    """CLIP's vision tower; the defaults are ViT-L/14 at the 518 pixels of the paper."""

    width: int = Field(default=1024, gt=0)
    depth: int = Field(default=24, gt=0)
    heads: int = Field(default=16, gt=0)
    mlp_ratio: float = Field(default=4.0, gt=0)
    patch_size: int = Field(default=14, gt=0)
    image_size: tuple[int, int] = (518, 518)
    mean: RGB = (0.48145466, 0.4578275, 0.40821073)
    std: RGB = (0.26862954, 0.26130258, 0.27577711)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (h, w)."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @model_validator(mode="after")
    def _check(self) -> "VisionConfig":
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        if any(side % self.patch_size for side in self.image_size):
            raise ValueError(f"image_size must be a multiple of {self.patch_size}, got {self.image_size}")
        if min(self.grid) < LEAST_GRID:
            raise ValueError(
                f"image_size must give at least {LEAST_GRID} x {LEAST_GRID} patches of {self.patch_size} "
                f"pixels, got {self.image_size}"
            )
        return self


class TextConfig(_Frozen):
    """CLIP's text tower; the defaults are those of ViT-L/14."""

    width: int = Field(default=768, gt=0)
    depth: int = Field(default=12, gt=0)
    heads: int = Field(default=12, gt=0)
    mlp_ratio: float = Field(default=4.0, gt=0)
    context_length: int = Field(default=77, gt=2)
    vocabulary: int = Field(default=49408, gt=2)

    @model_validator(mode="after")
    def _check(self) -> "TextConfig":
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        return self


class CLIPConfig(_Frozen):
    """A dual encoder; activation: OpenAI trained with QuickGELU, the released adapters with GELU."""

    vision: VisionConfig = VisionConfig()
    text: TextConfig = TextConfig()
    embedding: int = Field(default=768, gt=0)
    activation: Activation = "gelu"


class MoEConfig(_Frozen):
    """LoRA experts of one layer; mix: their share in a token (lambda of Eq. 5).

    separated: A frozen on slices of its own (Eq. 6), else random and trained. router_hidden: width of the
    hidden layer of an MLP router, None for the paper's one matrix.
    """

    experts: int = Field(default=4, gt=0)
    top_k: int = Field(default=2, gt=0)
    rank: int = Field(default=8, gt=0)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    mix: float = Field(default=0.1, ge=0, le=1)
    separated: bool = True
    router_hidden: int | None = Field(default=None, gt=0)

    @property
    def scaling(self) -> float:
        """What LoRA outputs are multiplied with."""
        return self.alpha / self.rank

    @model_validator(mode="after")
    def _check(self) -> "MoEConfig":
        if self.top_k > self.experts:
            raise ValueError(f"top_k must not exceed the number of experts {self.experts}, got {self.top_k}")
        return self


class MoECLIPConfig(_Frozen):
    """The whole model.

    layers: blocks, 1-based and ascending, after which a MoE layer follows and whose tokens make maps.
    moe: None leaves the experts out and keeps maps and projections. scales: odd windows of patches.
    image_adapter: Eq. 13 for the image token, else the mean of the last layer's projected patches.
    leaky_projection: LeakyReLU after the projections. text_adapter: a matrix with LeakyReLU in place of
    CLIP's text projection.
    """

    clip: CLIPConfig = CLIPConfig()
    layers: tuple[int, ...] = (6, 12, 18, 24)
    moe: MoEConfig | None = MoEConfig()
    scales: tuple[int, ...] = (1, 3, 5)
    image_adapter: bool = True
    leaky_projection: bool = False
    text_adapter: bool = False
    prompts: Prompts = "paper"

    @property
    def maps(self) -> int:
        """Anomaly maps of a picture: one a layer and scale."""
        return len(self.layers) * len(self.scales)

    @model_validator(mode="after")
    def _check(self) -> "MoECLIPConfig":
        depth = self.clip.vision.depth
        if not self.layers or list(self.layers) != sorted({*self.layers} & {*range(1, depth + 1)}):
            raise ValueError(f"layers must ascend within 1..{depth}, got {self.layers}")
        if not self.scales or any(scale < 1 or scale % 2 == 0 for scale in self.scales):
            raise ValueError(f"scales must be odd and positive, got {self.scales}")
        if self.moe and self.moe.experts * self.moe.rank > self.clip.vision.width:
            raise ValueError(
                f"moe: experts x rank must not exceed the width {self.clip.vision.width}, "
                f"got {self.moe.experts} x {self.moe.rank}"
            )
        return self
