"""Pictures with the patches that choose each expert: first (Figure 3 of the MoECLIP paper), or at all."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data.pictures import Sample, load_mask, load_picture
from training.figures.sheet import Column, blend, draw_sheet, mark_truth
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import RunConfig

FIRST = "blue: true defect; green: patches whose first choice is the expert"
CHOSEN = "blue: true defect; green: patches that choose the expert"
_GREEN = np.array([40.0, 200.0, 80.0])


def draw_patches(
    config: RunConfig, samples: Sequence[Sample], chosen_nNK: npt.NDArray[np.bool_], legend: str
) -> Image.Image:
    """A column for each picture: itself, its true defects, and the patches of each expert.

    chosen_nNK: whether a patch is one of the expert's; legend: in which way.
    """
    columns = [_column(config, one, chosen) for one, chosen in zip(samples, chosen_nNK, strict=True)]
    return draw_sheet(columns, [*columns[0].tiles], legend)


def _column(config: RunConfig, sample: Sample, chosen_NK: npt.NDArray[np.bool_]) -> Column:
    picture, truth = load_picture(sample.path, config.input), load_mask(sample, config.input)
    vision = config.model.clip.vision
    side = vision.patch_size
    chosen_HWK = chosen_NK.reshape(*vision.grid, -1).repeat(side, 0).repeat(side, 1)
    chosen = {
        f"expert {number}": blend(picture, chosen_HWK[..., number].astype(np.float32), _GREEN)
        for number in range(chosen_HWK.shape[2])
    }
    tiles = {"picture": picture, "truth": mark_truth(picture, truth), **chosen}
    return Column(class_name(sample), sample.kind, tiles)
