"""Pictures with the patches that choose each expert first (Figure 3 of the MoECLIP paper)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data.pictures import Sample, load_mask, load_picture
from training.figures.sheet import Column, blend, draw_sheet, mark_truth
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import RunConfig

LEGEND = "blue: true defect; green: patches whose first choice is the expert"
_GREEN = np.array([40.0, 200.0, 80.0])


def draw_patches(
    config: RunConfig, samples: Sequence[Sample], first_nN: npt.NDArray[np.int64], experts: int
) -> Image.Image:
    """A column for each picture: itself, its true defects, and the patches of each expert.

    first_nN: the expert that each patch chooses first.
    """
    columns = [_column(config, one, first_N, experts) for one, first_N in zip(samples, first_nN, strict=True)]
    return draw_sheet(columns, [*columns[0].tiles], LEGEND)


def _column(config: RunConfig, sample: Sample, first_N: npt.NDArray[np.int64], experts: int) -> Column:
    picture, truth = load_picture(sample.path, config.input), load_mask(sample, config.input)
    vision = config.model.clip.vision
    side = vision.patch_size
    first_HW = first_N.reshape(vision.grid).repeat(side, 0).repeat(side, 1)
    chosen = {
        f"expert {number}": blend(picture, (first_HW == number).astype(np.float32), _GREEN)
        for number in range(experts)
    }
    tiles = {"picture": picture, "truth": mark_truth(picture, truth), **chosen}
    return Column(class_name(sample), sample.kind, tiles)
