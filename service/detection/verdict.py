"""From a class name's score to a verdict, and what its map is held against."""

from collections.abc import Sequence
from dataclasses import dataclass

from export.contract.appearance import appearance
from export.contract.bundle import Bundle
from export.contract.category import ClassScores
from export.contract.decision import conformal_threshold
from export.contract.preprocess import Pixels
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
    bundle: Bundle,
    names: Sequence[ClassName],
    pixels: Pixels,
    finding: ZeroShotOutcome,
    parameters: ZeroShotParameters,
) -> list[Verdict]:
    """A verdict for each class name, in order; pixels: of the picture, as the model sees it.

    A picture that looks unlike those that calibrated a name is anomalous, whatever the model makes of it.
    """
    calibrated = [_fitted(bundle, name.canonical, parameters) for name in names]
    look = appearance(pixels) if any(calibrated) else None
    verdicts: list[Verdict] = []
    for name, fitted, score in zip(names, calibrated, finding.scores, strict=True):
        evidence = 0.0 if fitted is None or look is None else fitted.evidence(look)
        verdicts.append(Verdict(name.asked, max(score, evidence), *_thresholds(bundle, fitted, parameters)))
    return verdicts


def _fitted(bundle: Bundle, name: str, parameters: ZeroShotParameters) -> ClassScores | None:
    """What normal pictures said about a name, in the domain that is asked for."""
    fitted = bundle.class_scores.get(name)
    return fitted if fitted is not None and fitted.medical == parameters.is_medical else None


def _thresholds(
    bundle: Bundle, fitted: ClassScores | None, parameters: ZeroShotParameters
) -> tuple[float, float, bool]:
    """Thresholds of score and pixels: the caller's, else those fitted for name and domain, else the default.

    One that is given or the default is that of score and pixels alike: both are on one scale, where 0.5
    is as near to damaged as to whole.
    """
    if parameters.threshold is not None:
        return parameters.threshold, parameters.threshold, True
    alpha, spec = bundle.manifest.calibration.alpha, bundle.manifest.zero_shot
    if fitted is not None:
        return conformal_threshold(fitted.scores, alpha), conformal_threshold(fitted.peaks, alpha), True
    assert spec is not None
    return spec.threshold, spec.threshold, False
