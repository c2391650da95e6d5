"""The arrays of an AnomalyMoE reference case, computed by our model."""

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import functional as F

from tests.made import made_input, made_weight
from training.anomalymoe.model.component import ComponentExpert, grid_masks, paint, pool
from training.anomalymoe.model.config import (
    AnomalyMoEConfig,
    ComponentConfig,
    GlobalConfig,
    PatchConfig,
    RouterConfig,
)
from training.anomalymoe.model.detector import AnomalyMoE, Detection, Scene
from training.anomalymoe.model.expert import cosine_distance, target_patches
from training.anomalymoe.model.global_ import GlobalExpert, squared_distance
from training.anomalymoe.model.router import RouterOutput
from training.anomalymoe.presets import OFFICIAL_AUTOENCODER, OFFICIAL_STUDENT
from training.anomalymoe.weights.released import load_released
from training.backbones.vit import VisionTransformer, ViTConfig

CELL = 28
DILATION = 5


class AnomalyMoECase(BaseModel):
    """The settings of one small AnomalyMoE model."""

    seed: int
    embed_dim: int
    num_heads: int
    register_tokens: int
    patch_experts: int
    global_experts: int
    component_experts: int
    top_k: int
    batch: int
    components_per_image: int
    image_size: int = Field(multiple_of=CELL)
    depth: int
    pos_embed_grid: int
    parameters: dict[str, tuple[int, ...]]


@torch.inference_mode()
def arrays(settings: str) -> dict[str, Tensor]:
    """Everything that a case's figures hold, from our model; settings: the case's JSON."""
    case = AnomalyMoECase.model_validate_json(settings)
    model = build(case)
    shape = (case.batch, 3, case.image_size, case.image_size)
    encoded = model.encode(made_input(case.seed, "image", shape))
    pixel_masks = _pixel_masks(case)
    masks = grid_masks(pixel_masks, model.encoder.grid)
    scene = Scene(made_input(case.seed, "image_ae", shape), encoded.features, masks, DILATION)
    router: RouterOutput = model.router(encoded.cls)
    patches_BND = target_patches(encoded.features, case.embed_dim, model.encoder.prefix_tokens)
    embedding_BMD = pool(patches_BND, scene.masks, DILATION)
    return {
        "cls": encoded.cls,
        "router_logits": _released_order(router.logits, model.config.counts),
        "routing_weights": _released_order(router.dense_gates, model.config.counts),
        "component_embedding": embedding_BMD.flatten(0, 1),
        **_target_arrays(model, scene, patches_BND.transpose(1, 2).unflatten(2, model.encoder.grid)),
        **_expert_arrays(model, scene, router),
        **_component_arrays(model, embedding_BMD, router, pixel_masks),
    }


def build(case: AnomalyMoECase) -> AnomalyMoE:
    """Our model at the case's size with the case's weights, in evaluation mode; the student scores."""
    networks = {"autoencoder": OFFICIAL_AUTOENCODER, "student": OFFICIAL_STUDENT}
    config = AnomalyMoEConfig(
        router=RouterConfig(top_k=case.top_k),
        patch=PatchConfig(count=case.patch_experts, heads=case.num_heads),
        component=ComponentConfig(count=case.component_experts),
        global_=GlobalConfig(count=case.global_experts, scoring="student", **networks),
    )
    encoder = ViTConfig(
        width=case.embed_dim,
        depth=case.depth,
        heads=case.num_heads,
        image_size=(case.image_size, case.image_size),
        position_grid=case.pos_embed_grid,
        registers=case.register_tokens,
    )
    model = AnomalyMoE(config, VisionTransformer(encoder))
    weights = {name: made_weight(case.seed, name, shape) for name, shape in case.parameters.items()}
    load_released(model, weights)
    return model.eval()


def _pixel_masks(case: AnomalyMoECase) -> Tensor:
    """Masks from outside, bool (B, M, H, W)."""
    cells = case.image_size // CELL
    shape = (case.components_per_image, cells, cells)
    coarse = torch.stack([made_input(case.seed, f"mask{b}", shape) for b in range(case.batch)]) > 0.8
    return coarse.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)


def _released_order(values_BE: Tensor, counts: tuple[int, int, int]) -> Tensor:
    patch, component, global_ = values_BE.split(list(counts), dim=1)
    return torch.cat([patch, global_, component], 1)


def _target_arrays(model: AnomalyMoE, scene: Scene, target_BDhw: Tensor) -> dict[str, Tensor]:
    """F_target, and how far the autoencoders are from it."""
    experts = [expert for expert in model.experts if isinstance(expert, GlobalExpert)]
    mean_Bhw = target_BDhw.mean(1)
    errors = mean_Bhw.new_zeros(len(mean_Bhw), len(experts), *mean_Bhw.shape[1:])
    for i, expert in enumerate(experts):
        errors[:, i] = squared_distance(expert.autoencoder(scene.image), target_BDhw)
    return {
        "f_target_mean": mean_Bhw,
        "f_target_corner": target_BDhw[:, :, ::9, ::9],
        "global_error_target": errors,
    }


def _expert_arrays(model: AnomalyMoE, scene: Scene, router: RouterOutput) -> dict[str, Tensor]:
    """The experts' answers, and their level maps at picture size, every 8th pixel."""
    patch, component, _ = model.config.counts
    outputs = [model.run_expert(column, scene) for column in range(len(model.experts))]
    errors = torch.stack([output.error for output in outputs], 1)
    zeros = torch.zeros_like(errors)
    levels = model.level_maps(Detection.chosen(router, errors), zeros, zeros + 1)
    size = scene.image.shape[-2:]
    maps = F.interpolate(levels, size, mode="bilinear", align_corners=False)[..., ::8, ::8]
    return {
        "patch_error": errors[:, :patch],
        "patch_feature_mean": torch.stack([output.pooled for output in outputs], 1)[:, :patch],
        "global_error_student": errors[:, patch + component :],
        "level_patch": maps[:, 0],
        "level_global": maps[:, 2],
    }


def _component_arrays(
    model: AnomalyMoE, embedding_BMD: Tensor, router: RouterOutput, pixel_masks: Tensor
) -> dict[str, Tensor]:
    """Component errors, and their level as released: painted on the pixels of the given masks."""
    patch, component, _ = model.config.counts
    experts = [expert for expert in model.experts if isinstance(expert, ComponentExpert)]
    gates = router.dense_gates[:, patch : patch + component]
    errors_BME = embedding_BMD.new_zeros(*embedding_BMD.shape[:2], component)
    level_BHW = torch.zeros_like(pixel_masks[:, 0], dtype=gates.dtype)
    for i, expert in enumerate(experts):
        errors_BME[..., i] = cosine_distance(embedding_BMD, expert.reconstruct(embedding_BMD))
        level_BHW += gates[:, i, None, None] * paint(errors_BME[..., i], pixel_masks)
    return {"component_error": errors_BME.flatten(0, 1), "level_component": level_BHW[:, ::8, ::8]}
