"""Anomaly maps of test pictures: as served (Figure 4 of the MoECLIP paper), by layer and scale (Figure 11).

Legend: B pictures, S maps (layers times scales), N patches, H W pixels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from training.data.pictures import Sample, load_mask, load_picture
from training.figures.sheet import Column, Tile, blend, draw_sheet, mark_truth
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.model.lora_moe import top_gates
from training.moeclip.model.maps import margins, patch_logits, served_map
from training.moeclip.model.texts import ClassTexts

LEGEND = "blue: true defect; orange: nearer to the anomalous text than to the normal one"
_HOT = np.array([255.0, 60.0, 0.0])


@torch.inference_mode()
def draw_maps(run: Checkpoint[RunConfig], samples: Sequence[Sample]) -> tuple[Image.Image, Image.Image]:
    """A sheet with the map of each picture, and one with a row for each layer and scale."""
    model, spec = run.model, run.config.input
    names = [class_name(one) for one in samples]
    text_B2E = ClassTexts(model, run.tokenizer, names).of(names)
    pictures = [load_picture(one.path, spec) for one in samples]
    seen = model(model.normalise(torch.from_numpy(np.stack(pictures))))
    logits_BSN2 = patch_logits(seen.tokens, text_B2E)
    layers, scales = model.config.layers, model.config.scales
    rows = [f"layer {layer}, {scale} x {scale}" for layer in layers for scale in scales]
    parts = {name: logits_BSN2[:, [row]] for row, name in enumerate(rows)} | {"map": logits_BSN2}
    industrial_B = torch.zeros(len(samples), dtype=torch.bool, device=logits_BSN2.device)
    maps = {
        name: served_map(margins(part), industrial_B, model.grid, (spec.height, spec.width)).cpu().numpy()
        for name, part in parts.items()
    }
    columns = []
    for i, (sample, picture) in enumerate(zip(samples, pictures, strict=True)):
        tiles = {"picture": picture, "truth": mark_truth(picture, load_mask(sample, spec))}
        tiles |= {name: _overlay(picture, values[i]) for name, values in maps.items()}
        columns.append(Column(names[i], sample.kind, tiles))
    whole, parts_of_it = (
        draw_sheet(columns, ["picture", "truth", *shown], LEGEND) for shown in (["map"], rows)
    )
    return whole, parts_of_it


@torch.inference_mode()
def patch_gates(run: Checkpoint[RunConfig], samples: Sequence[Sample]) -> list[npt.NDArray[np.float32]]:
    """Gates (B, N, K) of the patches of each picture, 0 where not chosen (Figures 12 to 15), by MoE layer."""
    moe = run.config.model.moe
    assert moe is not None
    pixels = np.stack([load_picture(one.path, run.config.input) for one in samples])
    seen = run.model(run.model.normalise(torch.from_numpy(pixels)))
    return [top_gates(one.probabilities[:, 1:], moe.top_k).cpu().numpy() for one in seen.moe]


def _overlay(picture: Tile, map_HW: npt.NDArray[np.float32]) -> Tile:
    """The picture, the more orange the higher the map is above one half."""
    return blend(picture, np.clip(2 * map_HW - 1, 0, 1), _HOT)
