"""From a class name's score to a verdict, and what its map is held against."""

from collections.abc import Sequence
from dataclasses import dataclass

from export.contract.bundle import Bundle
from export.contract.decision import conformal_threshold
from service.detection.class_names import ClassName
from service.inference.moeclip import ZeroShotOutcome
from service.schemas.zero_shot import ZeroShotParameters


@dataclass(frozen=True)
class Verdict:
    """One class name: its score and threshold, and the threshold of its map's pixels, all 0..1.

    is_calibrated: the thresholds were fitted on normal pictures or given by the caller.
    """

    class_name: str
    score: float
    threshold: float
    pixel_threshold: float
    is_calibrated: bool

    @property
    def is_anomalous(self) -> bool:
        """Whether the score is above the threshold, or 1, where float32 ends: no score would be above."""
        return self.score > self.threshold or self.score >= 1


def judge(
    bundle: Bundle, names: Sequence[ClassName], finding: ZeroShotOutcome, parameters: ZeroShotParameters
) -> list[Verdict]:
    """A verdict for each class name, in order."""
    return [
        Verdict(name.asked, score, *_thresholds(bundle, name.canonical, parameters))
        for name, score in zip(names, finding.scores, strict=True)
    ]


def _thresholds(bundle: Bundle, name: str, parameters: ZeroShotParameters) -> tuple[float, float, bool]:
    """Thresholds of score and pixels: the caller's, else those fitted for name and domain, else the default.

    One that is given or the default is that of score and pixels alike: both are on one scale, where 0.5
    is as near to damaged as to whole.
    """
    if parameters.threshold is not None:
        return parameters.threshold, parameters.threshold, True
    alpha, spec = bundle.manifest.calibration.alpha, bundle.manifest.zero_shot
    fitted = bundle.class_scores.get(name)
    if fitted is not None and fitted.medical == parameters.is_medical:
        return conformal_threshold(fitted.scores, alpha), conformal_threshold(fitted.peaks, alpha), True
    assert spec is not None
    return spec.threshold, spec.threshold, False
