"""How test pictures are prepared and their maps scaled: as the service does, or as the papers do.

Legend: n pictures, L levels, h w patch grid.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from rich.progress import Progress
from torch import Tensor

from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.products import measure_products
from training.data.dataset import Place

View = Literal["full", "paper"]
Normalisation = Literal["calibrated", "test-minmax"]

PAPER_CROP = 392 / 448


@dataclass(frozen=True)
class Protocol:
    """The service's by default.

    view: `full` as the service sees a picture, `paper` its centre only (448 pixels cropped to 392).
    masks: folder of component masks in place of the detector's own components.
    normalise: `test-minmax` scales each level by its least and largest error in the test set.
    Raises ValueError for masks with calibrated errors: calibration is of the detector's own components.
    """

    view: View = "full"
    masks: Path | None = None
    normalise: Normalisation = "calibrated"

    def __post_init__(self) -> None:
        if self.masks is not None and self.normalise == "calibrated":
            raise ValueError(
                f"masks {self.masks} need normalise test-minmax, as calibration is of the detector's own "
                "components, got calibrated"
            )

    @property
    def needs_categories(self) -> bool:
        """Whether products must have been calibrated: for centres of components, or scales of errors."""
        return self.masks is None

    def as_json(self) -> dict[str, str | None]:
        """The settings, ready for JSON."""
        masks = None if self.masks is None else str(self.masks)
        return {"view": self.view, "masks": masks, "normalise": self.normalise}

    @property
    def deviations(self) -> list[str]:
        """What differs from the service, in words."""
        words = {
            "centre crop of 7/8 as in the paper": self.view == "paper",
            f"components from {self.masks}": self.masks is not None,
            "each level scaled by its minimum and maximum over the TEST SET, for reproducing papers only: "
            "no service can do that": self.normalise == "test-minmax",
        }
        return [text for text, applies in words.items() if applies]


def prepared(checkpoint: Checkpoint, data: Place, protocol: Protocol, progress: Progress) -> Checkpoint:
    """The checkpoint as the protocol shows it pictures.

    Calibration is by places of the picture: for another crop it is made anew, on the data's train/good.
    Raises DataError when that is needed and there are none.
    """
    config = checkpoint.config
    if protocol.view == "full" or config.input.crop == PAPER_CROP:
        return checkpoint
    cropped = config.model_copy(update={"input": config.input.model_copy(update={"crop": PAPER_CROP})})
    if protocol.normalise == "test-minmax":
        return replace(checkpoint, config=cropped)
    categories = measure_products(checkpoint.detector, data, cropped, progress)
    return replace(checkpoint, config=cropped, categories=categories)


def min_max(levels_nLhw: Tensor) -> Tensor:
    """Each level between its least and largest value over all pictures; 0 for a level that is even."""
    least = levels_nLhw.amin((0, 2, 3), keepdim=True)
    span = levels_nLhw.amax((0, 2, 3), keepdim=True) - least
    return (levels_nLhw - least) / span.clamp(min=torch.finfo(span.dtype).tiny)
