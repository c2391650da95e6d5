"""Pictures with the patches that choose each expert: first (Figure 3 of the MoECLIP paper), or at all."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data.pictures import Sample, load_mask, load_picture
from training.figures.sheet import Column, blend, draw_sheet, mark_truth
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import RunConfig

FIRST = (
    "blue: true defect; green: patches whose first choice is the expert; in brackets its mean routing weight"
)
CHOSEN = "blue: true defect; green: patches that choose the expert"
GRAD_CAM = "blue: true defect; green: where what the expert says makes the picture anomalous (Grad-CAM)"
_GREEN = np.array([40.0, 200.0, 80.0])


def draw_patches(
    config: RunConfig,
    samples: Sequence[Sample],
    strength_nNK: npt.NDArray[np.generic],
    legend: str,
    experts: Sequence[str] = (),
) -> Image.Image:
    """A column for each picture: itself, its true defects, and the patches of each expert.

    strength_nNK: how much a patch is the expert's, 0..1 or bool; legend: in which way. experts: their names.
    """
    names = experts or [f"expert {number}" for number in range(strength_nNK.shape[2])]
    columns = [
        _column(config, one, strength, names) for one, strength in zip(samples, strength_nNK, strict=True)
    ]
    return draw_sheet(columns, [*columns[0].tiles], legend)


def _column(
    config: RunConfig, sample: Sample, strength_NK: npt.NDArray[np.generic], names: Sequence[str]
) -> Column:
    picture, truth = load_picture(sample.path, config.input), load_mask(sample, config.input)
    vision = config.model.clip.vision
    side = vision.patch_size
    strength_HWK = strength_NK.astype(np.float32).reshape(*vision.grid, -1).repeat(side, 0).repeat(side, 1)
    chosen = {name: blend(picture, strength_HWK[..., row], _GREEN) for row, name in enumerate(names)}
    tiles = {"picture": picture, "truth": mark_truth(picture, truth), **chosen}
    return Column(class_name(sample), sample.kind, tiles)
