"""How test pictures are prepared and their maps scaled: as the service does, or as the papers do.

Legend: n pictures, L levels, h w patch grid.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

from export.contract.manifest import InputSpec
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.products import measure_products
from training.data.dataset import Place

View = Literal["full", "paper"]
Normalisation = Literal["calibrated", "test-minmax", "released"]

PAPER_CROP = 392 / 448


@dataclass(frozen=True)
class Protocol:
    """The service's by default.

    view: `full` as the service sees a picture, `paper` its centre only (448 pixels cropped to 392).
    masks: folder of component masks in place of the detector's own components.
    normalise: `test-minmax` scales each level by its least and largest error in the test set; `released` then
    also weights it by the largest gate of its experts in each picture, as the release of the paper does.
    Raises ValueError for masks with calibrated errors: calibration is of the detector's own components.
    """

    view: View = "full"
    masks: Path | None = None
    normalise: Normalisation = "calibrated"

    def __post_init__(self) -> None:
        if self.masks is not None and self.normalise == "calibrated":
            raise ValueError(
                f"masks {self.masks} need normalise test-minmax or released, as calibration is of the "
                "detector's own components, got calibrated"
            )

    @property
    def needs_categories(self) -> bool:
        """Whether products must have been calibrated: for centres of components, or scales of errors."""
        return self.masks is None

    def as_json(self) -> dict[str, Any]:
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
            "no service can do that": self.normalise != "calibrated",
            "times the largest gate of the level": self.normalise == "released",
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
    if protocol.normalise != "calibrated":
        return replace(checkpoint, config=cropped)
    categories = measure_products(checkpoint.detector, data, cropped, progress)
    return replace(checkpoint, config=cropped, categories=categories)


def scaling(
    protocol: Protocol, parts: Iterable[tuple[Tensor, Tensor]], spec: InputSpec
) -> Callable[[Tensor, Tensor], Tensor]:
    """What makes level maps (b, L, h, w) and gates (b, L) into those that the protocol adds up.

    parts: those of all pictures, of which the protocols of the papers need least and largest value.
    """
    if protocol.normalise == "calibrated":
        return lambda levels_bLhw, _: levels_bLhw
    size = (spec.height, spec.width) if protocol.normalise == "released" else None
    ends = value_range((levels_bLhw for levels_bLhw, _ in parts), size)
    if protocol.normalise == "test-minmax":
        return lambda levels_bLhw, _: min_max(levels_bLhw, ends)
    return lambda levels_bLhw, gates_bL: min_max(levels_bLhw, ends) * gates_bL[..., None, None]


class Range(NamedTuple):
    """Least and largest value of each level, (L, 1, 1)."""

    least: Tensor
    largest: Tensor


def value_range(parts: Iterable[Tensor], size: tuple[int, int] | None = None) -> Range:
    """Of each level over all pictures, which come in parts (b, L, h, w).

    size: (H, W) of the maps whose values are meant, as the release takes them; the patch grid by default.
    """
    ends: list[tuple[Tensor, Tensor]] = []
    for levels_bLhw in parts:
        fine = F.interpolate(levels_bLhw, size or levels_bLhw.shape[2:], mode="bilinear", align_corners=False)
        ends.append((fine.amin((0, 2, 3)), fine.amax((0, 2, 3))))
    least, largest = zip(*ends, strict=True)
    return Range(torch.stack(least).amin(0)[:, None, None], torch.stack(largest).amax(0)[:, None, None])


def min_max(levels_nLhw: Tensor, ends: Range) -> Tensor:
    """Each level between its least and largest value; 0 for a level that is even."""
    span = ends.largest - ends.least
    return (levels_nLhw - ends.least) / span.clamp(min=torch.finfo(span.dtype).tiny)
