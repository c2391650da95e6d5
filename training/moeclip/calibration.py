"""`anomoe-train calibrate` of a MoECLIP run: class names with scores of normal pictures, for thresholds.

Nothing is learnt from the pictures, so that none has to be held out: all normal ones calibrate.
"""

from pathlib import Path

from rich.progress import Progress

from export.contract.category import ClassScores
from training.data.dataset import Place, find_samples
from training.data.pictures import DataError
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import load_run
from training.moeclip.scoring import Domain, Scorer, joined
from training.runs.files import replace_categories


def add_classes(folder: Path, data: Place, domain: Domain, progress: Progress) -> dict[str, ClassScores]:
    """Calibrate the class names of a data set on its train/good into a run, and return what was added.

    A class of the same name is replaced, whatever its domain was, the others stay. Raises CheckpointError,
    or DataError when there are no normal training pictures.
    """
    run = load_run(folder)
    normal = [one for one in find_samples(data) if one.split == "train" and not one.is_anomalous]
    if not normal:
        raise DataError(f"{data}: no normal pictures (train/good) found")
    names = sorted({class_name(one) for one in normal})
    scorer = Scorer(run, names, domain)
    added: dict[str, ClassScores] = {}
    for name in names:
        members = [one for one in normal if class_name(one) == name]
        found = joined(scorer.score_samples(members, run.config.map_size, progress, f"calibrate {name}"))
        scores, peaks = (part.sort().values.numpy() for part in (found.score, found.peak))
        added[name] = ClassScores(name, scores, peaks, medical=domain == "medical")
    replace_categories(folder, (run.class_scores | added).values())
    return added
