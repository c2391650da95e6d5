"""Compare our models with reference figures: `python -m tests.oracle anomalymoe CASE`.

CASE is the path of a case's JSON, with its figures beside it as .npz. Weights and inputs are made from the seed
and the names, so a case needs no checkpoint.
"""

import sys
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional as F

from export.contract.manifest import LEVELS
from training.anomalymoe.component import ComponentExpert, grid_masks, paint, pool
from training.anomalymoe.config import (
    AnomalyMoEConfig,
    ComponentConfig,
    GlobalConfig,
    PatchConfig,
    RouterConfig,
    ViTConfig,
)
from training.anomalymoe.detector import AnomalyMoE, Detection, Scene
from training.anomalymoe.encoder import VisionTransformer
from training.anomalymoe.expert import ExpertOutput, cosine_distance, target_patches
from training.anomalymoe.presets import OFFICIAL_AUTOENCODER, OFFICIAL_STUDENT
from training.anomalymoe.router import RouterOutput
from training.weights import load_released

TOLERANCE = 1e-4
CELL = 28
DILATION = 5
Array = NDArray[np.float32]


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
    image_size: int
    depth: int
    pos_embed_grid: int
    parameters: dict[str, tuple[int, ...]]


def made_weight(seed: int, name: str, shape: Sequence[int]) -> Tensor:
    """The made-up value of one parameter."""
    values = _normal(f"{seed}:{name}", shape)
    if len(shape) >= 2:
        return torch.from_numpy(values / np.float32(np.sqrt(prod(shape[1:]))))
    is_scale = name.endswith(("weight", "gamma"))
    return torch.from_numpy(1 + np.float32(0.1) * values if is_scale else np.float32(0.05) * values)


def made_input(seed: int, what: str, shape: Sequence[int]) -> Tensor:
    """One standard normal input."""
    return torch.from_numpy(_normal(f"{seed}:input:{what}", shape))


def relative_errors(ours: Mapping[str, Tensor], reference: Mapping[str, Array]) -> dict[str, float]:
    """Largest difference over largest reference value, by array; infinite for a missing or misshapen one."""
    return {name: _relative_error(ours.get(name), expected) for name, expected in reference.items()}


def build_anomalymoe(case: AnomalyMoECase, scoring: str = "target") -> AnomalyMoE:
    """Our model at the case's size with the case's weights, in evaluation mode."""
    config = AnomalyMoEConfig(
        router=RouterConfig(top_k=case.top_k),
        patch=PatchConfig(count=case.patch_experts, heads=case.num_heads),
        component=ComponentConfig(count=case.component_experts),
        global_=GlobalConfig.model_validate(
            {
                "count": case.global_experts,
                "autoencoder": OFFICIAL_AUTOENCODER,
                "student": OFFICIAL_STUDENT,
                "scoring": scoring,
            }
        ),
    )
    encoder = VisionTransformer(
        ViTConfig(
            width=case.embed_dim,
            depth=case.depth,
            heads=case.num_heads,
            image_size=(case.image_size, case.image_size),
            position_grid=case.pos_embed_grid,
            registers=case.register_tokens,
        )
    )
    model = AnomalyMoE(config, encoder)
    weights = {name: made_weight(case.seed, name, shape) for name, shape in case.parameters.items()}
    load_released(model, weights)
    return model.eval()


@torch.inference_mode()
def anomalymoe_arrays(case: AnomalyMoECase) -> dict[str, Tensor]:
    """Everything that a case's figures hold, from our model."""
    model = build_anomalymoe(case)
    size, seed = case.image_size, case.seed
    image = made_input(seed, "image", (case.batch, 3, size, size))
    encoded = model.encode(image)
    router = model.router(encoded.cls)
    pixel_masks = _pixel_masks(case)
    scene = Scene(
        made_input(seed, "image_ae", image.shape),
        encoded.features,
        grid_masks(pixel_masks, model.encoder.grid),
        DILATION,
    )
    student_model = build_anomalymoe(case, scoring="student")
    patch, global_ = _outputs(model, "patch", scene), _outputs(model, "global", scene)
    student = _outputs(student_model, "global", scene)
    patches_BND = target_patches(encoded.features, case.embed_dim, model.encoder.prefix_tokens)
    f_target = patches_BND.unflatten(1, model.encoder.grid)
    embedding = pool(patches_BND, scene.masks, DILATION)
    component_error = _component_errors(model, embedding)
    level_maps = _level_maps(student_model.detect(scene, router), student_model, size)
    return {
        "cls": encoded.cls,
        "f_target_mean": f_target.mean(-1),
        "f_target_corner": f_target.permute(0, 3, 1, 2)[:, :, ::9, ::9],
        "router_logits": _released_order(router.logits, model.config.counts),
        "routing_weights": _released_order(router.gates_BE, model.config.counts),
        "patch_error": torch.stack([output.error for output in patch], 1),
        "patch_feature_mean": torch.stack([output.pooled for output in patch], 1),
        "global_error_target": torch.stack([output.error for output in global_], 1),
        "global_error_student": torch.stack([output.error for output in student], 1),
        "component_embedding": embedding.flatten(0, 1),
        "component_error": component_error.flatten(0, 1),
        "level_patch": level_maps[:, 0],
        "level_global": level_maps[:, 2],
        "level_component": _painted_level(component_error, router, model, pixel_masks),
    }


def main(arguments: Sequence[str]) -> int:
    """Print the relative error of every array; 0 when all are within TOLERANCE, 2 for wrong usage."""
    if len(arguments) != 2 or arguments[0] not in MODELS:
        print(f"usage: python -m tests.oracle {{{','.join(MODELS)}}} CASE", file=sys.stderr)
        return 2
    path = Path(arguments[1]).with_suffix(".json")
    errors = MODELS[arguments[0]](path)
    for name, error in errors.items():
        print(f"{name:24} {error:9.2e} {'ok' if error <= TOLERANCE else 'TOO LARGE'}")
    return int(max(errors.values()) > TOLERANCE)


def check_anomalymoe(path: Path) -> dict[str, float]:
    """Relative error of every array of one AnomalyMoE case."""
    case = AnomalyMoECase.model_validate_json(path.read_text())
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as reference:
        return relative_errors(anomalymoe_arrays(case), reference)


MODELS = {"anomalymoe": check_anomalymoe}


def _normal(key: str, shape: Sequence[int]) -> Array:
    return np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, dtype=np.float32)


def _relative_error(ours: Tensor | None, expected: Array) -> float:
    if ours is None or tuple(ours.shape) != expected.shape:
        return float("inf")
    difference = np.abs(ours.numpy().astype(np.float64) - expected).max()
    return float(difference / np.abs(expected).max())


def _pixel_masks(case: AnomalyMoECase) -> Tensor:
    """Masks from outside, bool (B, M, H, W)."""
    cells = case.image_size // CELL
    shape = (case.components_per_image, cells, cells)
    coarse = torch.stack([made_input(case.seed, f"mask{b}", shape) for b in range(case.batch)]) > 0.8
    return coarse.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)


def _outputs(model: AnomalyMoE, level: str, scene: Scene) -> list[ExpertOutput]:
    return [model.run_expert(column, scene) for column, one in enumerate(model.levels) if one == level]


def _released_order(values_BE: Tensor, counts: tuple[int, int, int]) -> Tensor:
    patch, component, global_ = values_BE.split(list(counts), dim=1)
    return torch.cat([patch, global_, component], 1)


def _component_errors(model: AnomalyMoE, embedding_BMD: Tensor) -> Tensor:
    """Cosine distance of each component by each component expert, (B, M, Nc)."""
    experts = [expert for expert in model.experts if isinstance(expert, ComponentExpert)]
    distances = [cosine_distance(embedding_BMD, expert.reconstruct(embedding_BMD)) for expert in experts]
    return torch.stack(distances, -1)


def _level_maps(detection: Detection, model: AnomalyMoE, size: int) -> Tensor:
    """Gate-weighted level maps at picture size, every 8th pixel."""
    zeros = torch.zeros_like(detection.router.logits)
    levels = model.level_maps(detection, zeros, zeros + 1)
    return F.interpolate(levels, (size, size), mode="bilinear", align_corners=False)[..., ::8, ::8]


def _painted_level(errors: Tensor, router: RouterOutput, model: AnomalyMoE, pixel_masks: Tensor) -> Tensor:
    """The component level as released: painted on the pixels of the given masks, every 8th pixel."""
    patch, component, _ = model.config.counts
    gates = router.gates_BE[:, patch : patch + component]
    maps = [gates[:, i, None, None] * paint(errors[..., i], pixel_masks) for i in range(component)]
    return torch.stack(maps).sum(0)[:, ::8, ::8]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
