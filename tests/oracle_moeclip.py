"""The arrays of a MoECLIP reference case, computed by our model."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from tests.made import made_input, made_weight
from training.moeclip.losses.balance import balance_loss
from training.moeclip.losses.etf import etf_loss
from training.moeclip.losses.objective import segmentation_losses
from training.moeclip.model.config import CLIPConfig, MoECLIPConfig, MoEConfig, TextConfig, VisionConfig
from training.moeclip.model.detector import MoECLIP, class_text
from training.moeclip.model.lora_moe import LoRAMoE, top_gates
from training.moeclip.model.maps import margins, patch_logits, released_map, released_score, training_maps
from training.moeclip.weights.open_clip import load_clip
from training.moeclip.weights.released import PARTS, load_adapters

HEAD_WIDTH = 32
NORMAL_PROMPTS = 2
PROBE = (2, 7)
EVERY = 5  # of the pixels of `map_train`
# The released program keeps the vision tower twice, and looks at pictures with the second.
VISION, TEXT = "image_encoder.", "clipmodel."


class MoECLIPCase(BaseModel):
    """The settings of one small MoECLIP model."""

    seed: int
    batch: int
    width: int
    layers: int
    E: int
    tw: int
    tl: int
    img: int
    levels: tuple[int, ...]
    K: int
    topk: int
    r: int
    alpha: float
    relu: bool
    quick_gelu: bool
    parameters: dict[str, tuple[int, ...]]

    def weights(self) -> dict[str, Tensor]:
        """Every parameter, made from its name."""
        return {name: made_weight(self.seed, name, shape) for name, shape in self.parameters.items()}


@torch.inference_mode()
def arrays(settings: str, figures: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Everything that a case's figures hold, from our model; settings: the case's JSON."""
    case = MoECLIPCase.model_validate_json(settings)
    model = build(case)
    final_PD = model.clip.read_text(torch.from_numpy(figures["text_tokens"].astype(np.int64)))
    assert model.text_adapter is not None
    prompts_PE = model.text_adapter(final_PD)
    units_PE = torch.nn.functional.normalize(prompts_PE, dim=-1)
    text_2E = class_text(units_PE[:NORMAL_PROMPTS], units_PE[NORMAL_PROMPTS:])
    seen = model(made_input(case.seed, "image", (case.batch, 3, case.img, case.img)))
    logits_BSN2 = patch_logits(seen.tokens, text_2E)
    return {
        "seg_tokens": seen.tokens,
        "det_token": seen.summary,
        "text_features": prompts_PE,
        "class_text": text_2E.T,
        "patch_logits": logits_BSN2,
        "score_head": released_score(seen.summary, text_2E),
        **_map_arrays(model, logits_BSN2, case),
        **_moe_arrays(model, made_input(case.seed, "tokens", (*PROBE, case.width))),
    }


def build(case: MoECLIPCase) -> MoECLIP:
    """Our model at the case's size with the case's weights, in evaluation mode."""
    model = MoECLIP(_config(case)).eval()
    weights = case.weights()
    adapters = {name: one for name, one in weights.items() if name.startswith(tuple(f"{p}." for p in PARTS))}
    load_adapters(model, adapters)
    load_clip(model.clip, _clip_weights(weights))
    return model


def _config(case: MoECLIPCase) -> MoECLIPConfig:
    """What the settings leave out is seen from the shapes of the parameters."""
    shape = case.parameters
    vision = VisionConfig(
        width=case.width,
        depth=case.layers,
        heads=case.width // HEAD_WIDTH,
        mlp_ratio=shape[f"{VISION}transformer.resblocks.0.mlp.c_fc.bias"][0] / case.width,
        patch_size=shape[f"{VISION}conv1.weight"][-1],
        image_size=(case.img, case.img),
    )
    text = TextConfig(
        width=case.tw,
        depth=case.tl,
        heads=case.tw // HEAD_WIDTH,
        mlp_ratio=shape[f"{TEXT}transformer.resblocks.0.mlp.c_fc.bias"][0] / case.tw,
        context_length=shape[f"{TEXT}positional_embedding"][0],
        vocabulary=shape[f"{TEXT}token_embedding.weight"][0],
    )
    activation = "quick_gelu" if case.quick_gelu else "gelu"
    return MoECLIPConfig(
        clip=CLIPConfig(vision=vision, text=text, embedding=case.E, activation=activation),
        layers=case.levels,
        moe=MoEConfig(experts=case.K, top_k=case.topk, rank=case.r, alpha=case.alpha),
        leaky_projection=case.relu,
        text_adapter=True,
    )


def _clip_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's own names; the copy of the vision tower that is not looked with is left out."""
    vision = {
        name.replace(VISION, "visual."): one for name, one in weights.items() if name.startswith(VISION)
    }
    text = {name.removeprefix(TEXT): one for name, one in weights.items() if name.startswith(TEXT)}
    return {name: one for name, one in text.items() if not name.startswith("visual.")} | vision


def _map_arrays(model: MoECLIP, logits_BSN2: Tensor, case: MoECLIPCase) -> dict[str, Tensor]:
    size = (case.img, case.img)
    maps_BS2HW = training_maps(logits_BSN2, model.grid, size)
    mask = (made_input(case.seed, "mask", (case.batch, *size)) > 1.0).float()
    terms = [segmentation_losses(one, mask) for one in maps_BS2HW.unbind(1)]
    margins_BN = margins(logits_BSN2)
    released = {
        name: released_map(margins_BN, torch.tensor(is_medical), model.grid, size, model.config.maps)
        for name, is_medical in (("map_industrial", False), ("map_medical", True))
    }
    return {
        "map_train": maps_BS2HW[..., ::EVERY, ::EVERY],
        "seg_loss": torch.stack([focal + dice for focal, dice in terms]),
        **released,
    }


def _moe_arrays(model: MoECLIP, tokens_BTD: Tensor) -> dict[str, Tensor]:
    """The MoE layers alone, on the same tokens."""
    layers = [layer for layer in model.moe if isinstance(layer, LoRAMoE)]
    outputs = [layer(tokens_BTD, by_expert=True) for layer in layers]
    gates = [
        top_gates(one.probabilities, layer.config.top_k) for layer, one in zip(layers, outputs, strict=True)
    ]
    mixed = [(g.unsqueeze(-1) * one.expert_outputs).sum(2) for g, one in zip(gates, outputs, strict=True)]
    return {
        "moe_probe": torch.stack(mixed),
        "router_probs": torch.stack([one.probabilities.flatten(0, 1) for one in outputs]),
        "etf_loss": torch.stack([etf_loss(one.expert_outputs) for one in outputs]),
        "balance_cv2": torch.stack([balance_loss(one.probabilities) for one in outputs]),
    }
