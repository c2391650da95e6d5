"""AnomalyMoE: a frozen encoder, a router, and the experts it chooses for each picture.

Legend: B batch, b chosen pictures, T tokens, F features, D width, V width of cls, E experts, K top-k,
M components, L levels, h w patch grid, H W pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from export.contract.manifest import LEVELS, Level
from training.anomalymoe.model.component import ComponentExpert, assign
from training.anomalymoe.model.config import AnomalyMoEConfig, ComponentConfig, GlobalConfig, PatchConfig
from training.anomalymoe.model.expert import ExpertOutput, init_linear, target_patches
from training.anomalymoe.model.gaussian import GaussianExpert
from training.anomalymoe.model.global_ import GlobalExpert, check_network
from training.anomalymoe.model.part import PartExpert
from training.anomalymoe.model.patch import PatchExpert
from training.anomalymoe.model.router import Router, RouterOutput
from training.anomalymoe.model.subspace import SubspaceExpert
from training.backbones.base import Encoder, EncoderOutput


class Scene(NamedTuple):
    """All that experts look at: image (B, 3, H, W), features (B, T, F), component masks bool (B, M, h, w).

    dilation: of the masks when they are pooled, in patches; 1 for none.
    """

    image: Tensor
    features: Tensor
    masks: Tensor
    dilation: int = 1

    def take(self, rows_b: Tensor) -> "Scene":
        """The pictures of the given numbers."""
        return Scene(self.image[rows_b], self.features[rows_b], self.masks[rows_b], self.dilation)


class Detection(NamedTuple):
    """The routing and the error map (B, K, h, w) of each chosen expert, in the order of router.experts."""

    router: RouterOutput
    errors: Tensor

    @classmethod
    def chosen(cls, router: RouterOutput, errors_BEhw: Tensor) -> "Detection":
        """Keep the chosen ones of the error maps of all experts."""
        picked = router.experts[..., None, None].expand(-1, -1, *errors_BEhw.shape[2:])
        return cls(router, errors_BEhw.gather(1, picked))


class AnomalyMoE(nn.Module):
    """Sparse mixture of patch, component and global experts over a frozen encoder.

    `experts` and `levels` are in router order: all patch, then component, then global experts.
    Raises ValueError for experts that do not fit the encoder's width, picture or grid.
    """

    mean: Tensor
    std: Tensor
    level_of_expert: Tensor

    def __init__(self, config: AnomalyMoEConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.router = Router(encoder.cls_width, config.counts, config.router).apply(init_linear)
        self.experts = nn.ModuleList(
            [
                *(_patch_expert(encoder, config.patch) for _ in range(config.patch.count)),
                *(_component_expert(encoder, config.component) for _ in range(config.component.count)),
                *(_global_expert(encoder, config.global_) for _ in range(config.global_.count)),
            ]
        )
        self.levels: tuple[Level, ...] = tuple(
            level for level, count in zip(LEVELS, config.counts, strict=True) for _ in range(count)
        )
        membership = [[float(one == level) for one in self.levels] for level in LEVELS]
        self.register_buffer("level_of_expert", torch.tensor(membership), persistent=False)
        self.register_buffer("mean", torch.tensor(encoder.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(encoder.std).view(3, 1, 1), persistent=False)
        encoder.requires_grad_(False)
        encoder.train(False)  # batch norms must never take the statistics of the pictures at hand

    def train(self, mode: bool = True) -> "AnomalyMoE":
        """Switch the router and the experts; the encoder is frozen and stays in evaluation mode."""
        super().train(mode)
        self.encoder.train(False)
        return self

    def forward(self, image: Tensor, centres_BMD: Tensor, valid_BM: Tensor, dense: bool = False) -> Detection:
        """Error maps of the chosen experts.

        image: normalised (B, 3, H, W). centres_BMD: component centres of each picture's product;
        valid_BM: bool, which of them exist. dense: run every expert on every picture and pick afterwards.
        """
        encoded = self.encode(image)
        scene = Scene(image, encoded.features, self.component_masks(encoded.features, centres_BMD, valid_BM))
        return self.detect(scene, self.router(encoded.cls), dense)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 pictures (B, H, W, 3) as the encoder takes them: float (B, 3, H, W), on its device."""
        return (pixels.permute(0, 3, 1, 2).to(self.mean) / 255 - self.mean) / self.std

    @torch.no_grad()
    def encode(self, image: Tensor) -> EncoderOutput:
        """Features (B, T, F) and cls (B, V) of the frozen encoder, without gradient."""
        return self.encoder(image)

    def component_masks(self, features_BTF: Tensor, centres_BMD: Tensor, valid_BM: Tensor) -> Tensor:
        """Bool masks (B, M, h, w): each patch belongs to the nearest of its picture's valid centres."""
        patches_BND = target_patches(features_BTF, self.encoder.width, self.encoder.prefix_tokens)
        return assign(patches_BND, centres_BMD, valid_BM, self.encoder.grid)

    def detect(self, scene: Scene, router: RouterOutput, dense: bool = False) -> Detection:
        """Run each chosen expert once, on the pictures that chose it; the masks may come from outside."""
        if dense:
            return Detection.chosen(router, self.expert_errors(scene))
        errors = scene.features.new_zeros(*router.experts.shape, *self.encoder.grid)
        for column in router.experts.unique().tolist():
            rows, slots = torch.nonzero(router.experts == column, as_tuple=True)
            error = self.run_expert(column, scene.take(rows)).error
            errors[rows, slots] = error.to(errors.dtype)
        return Detection(router, errors)

    def expert_errors(self, scene: Scene) -> Tensor:
        """Error maps of every expert on every picture, (B, E, h, w): for calibration and checks."""
        return torch.stack([self.run_expert(column, scene).error for column in range(len(self.experts))], 1)

    def run_expert(self, column: int, scene: Scene) -> ExpertOutput:
        """One expert, by router column, on all pictures of the scene."""
        expert = self.experts[column]
        if isinstance(expert, PatchExpert | GaussianExpert | SubspaceExpert):
            return expert(scene.features)
        if isinstance(expert, PartExpert):
            return expert(scene.features, scene.masks)
        if isinstance(expert, ComponentExpert):
            return expert(scene.features, scene.masks, scene.dilation)
        return expert(scene.image, scene.features)

    def level_maps(self, detection: Detection, offset_BEhw: Tensor, scale_BEhw: Tensor) -> Tensor:
        """Calibrated errors max((error - offset) / scale, 0), gated and summed by level, (B, L, h, w)."""
        experts_BK = detection.router.experts
        picked = experts_BK[..., None, None].expand(-1, -1, *detection.errors.shape[2:])
        calibrated = (detection.errors - offset_BEhw.gather(1, picked)) / scale_BEhw.gather(1, picked)
        weights_BLK = self.level_of_expert[:, experts_BK].transpose(0, 1) * detection.router.gates[:, None]
        return torch.einsum("blk,bkhw->blhw", weights_BLK, calibrated.clamp(min=0))


def _patch_expert(encoder: Encoder, config: PatchConfig) -> PatchExpert | GaussianExpert:
    width, grid, prefix = encoder.width, encoder.grid, encoder.prefix_tokens
    if config.gaussians is not None:
        return GaussianExpert(width, grid, prefix, config.gaussians)
    return PatchExpert(width, grid, prefix, config)


def _component_expert(encoder: Encoder, config: ComponentConfig) -> ComponentExpert | PartExpert:
    if config.parts is not None:
        return PartExpert(encoder.width, encoder.grid, encoder.prefix_tokens, config.parts)
    return ComponentExpert(encoder.width, encoder.prefix_tokens, config)


def _global_expert(encoder: Encoder, config: GlobalConfig) -> GlobalExpert | SubspaceExpert:
    width, grid, prefix = encoder.width, encoder.grid, encoder.prefix_tokens
    if config.subspace is not None:
        return SubspaceExpert(width, grid, prefix, config.subspace)
    check_network("autoencoder", config.autoencoder, encoder.image_size, grid)
    check_network("student", config.student or (), encoder.image_size, grid)
    return GlobalExpert(width, grid, prefix, config)
