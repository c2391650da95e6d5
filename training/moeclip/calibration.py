"""`anomoe-train calibrate` of a MoECLIP run: class names with scores of normal pictures, for thresholds.

Nothing is learnt from the pictures, so that none has to be held out: all normal ones calibrate.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress

from export.contract.appearance import FloatArray, appearance
from export.contract.category import DISTANCE_POWER, ClassScores
from export.contract.manifest import InputSpec
from training.data.dataset import Place, find_samples
from training.data.pictures import JPEG_QUALITIES, DataError, Sample, load_picture
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import load_run
from training.moeclip.scoring import Domain, PictureScores, Scorer, joined
from training.reach import visual_reach
from training.runs.files import replace_categories

logger = logging.getLogger(__name__)


def add_classes(folder: Path, data: Place, domain: Domain, progress: Progress) -> dict[str, ClassScores]:
    """Calibrate the class names of a data set on its train/good into a run, and return what was added.

    A class of the same name is replaced, whatever its domain was, the others stay. Raises CheckpointError,
    or DataError when there are no normal training pictures.
    """
    run = load_run(folder)
    normal = [one for one in find_samples(data) if one.split != "test" and not one.is_anomalous]
    if not normal:
        raise DataError(f"{data}: no normal pictures (train/good) found")
    names = sorted({class_name(one) for one in normal})
    scorer = Scorer(run, names, domain)
    added: dict[str, ClassScores] = {}
    for name in names:
        members = [one for one in normal if class_name(one) == name]
        found = joined(scorer.score_samples(members, run.config.map_size, progress, f"calibrate {name}"))
        if saturated := int((found.score == 1).sum()):
            logger.warning("%s: %d normal pictures score 1, which no damage exceeds", name, saturated)
        added[name] = _class_scores(name, found, _looks(members, run.config.input), domain)
    replace_categories(folder, (run.class_scores | added).values())
    return added


def _looks(samples: Sequence[Sample], spec: InputSpec) -> FloatArray:
    return np.stack([appearance(load_picture(one.path, spec, JPEG_QUALITIES)) for one in samples])


def _class_scores(name: str, found: PictureScores, looks_nF: FloatArray, domain: Domain) -> ClassScores:
    """With the distance of each picture to the others as part of its score, so that alpha covers both."""
    (mean, whitening), distances = visual_reach(looks_nF)
    scores = found.score.numpy()
    joint = np.maximum(scores, scores.max() * distances**DISTANCE_POWER)
    return ClassScores(
        name=name,
        scores=np.sort(joint),
        peaks=found.peak.sort().values.numpy(),
        medical=domain == "medical",
        appearance_mean=mean,
        appearance_whitening=whitening,
    )
