"""`anomoe-train evaluate` of a MoECLIP run: figures by category, whole pictures at model size.

As in the paper 518 pixels without a crop, masks resized nearest; protocols differ in the image score.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from rich.progress import Progress

from export.contract.names import canonical_name
from training.data.dataset import Place, find_samples
from training.data.pictures import DataError, Sample, load_mask
from training.data.sets.known import find_known
from training.metrics import auroc, bootstrap_interval, evaluate
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.scoring import BATCH, Domain, Ranking, Scorer, joined
from training.reporting.rows import ALL, Row, mean_rows

logger = logging.getLogger(__name__)

RANKED: dict[Ranking, str] = {
    "serving": "images ranked by the margin of the served score",
    "paper": "images ranked by Eq. 14",
    "moeclip": "images ranked as released: map and score scaled by their range over the TEST SET, "
    "for reproducing papers only",
}


def evaluate_run(
    run: Checkpoint[RunConfig],
    data: Place,
    domain: Domain | None,
    progress: Progress,
    by: Ranking = "serving",
    batch: int = BATCH,
) -> list[Row]:
    """Figures of every category with test pictures, then their mean; by: see `PictureScores.ranking`.

    domain: None for medical where the pictures are of a known medical data set, else industrial.
    Classes that the run was trained on are told: nothing is zero-shot there. Where all pictures are
    anomalous, or none has a mask, there are pixel or image figures alone.
    Raises DataError when there are no test pictures.
    """
    test = [one for one in find_samples(data) if one.split == "test"]
    if not test:
        raise DataError(f"{data}: no test pictures (test/<kind>) found")
    if seen := seen_classes(run, test):
        logger.warning("%s: the run was trained on %s, which is not zero-shot", data, ", ".join(seen))
    scorer = Scorer(run, sorted({class_name(one) for one in test}), "industrial", batch)
    rows: list[Row] = []
    for name in sorted({canonical_name(one.category) for one in test}):
        members = [one for one in test if canonical_name(one.category) == name]
        scorer.domain = domain or _domain(members[0])
        rows.append(_row(scorer, name, members, by, progress))
    return rows + mean_rows(rows)


def _domain(sample: Sample) -> Domain:
    dataset = find_known(sample.dataset)
    return "medical" if dataset and dataset.is_medical else "industrial"


def seen_classes(run: Checkpoint[RunConfig], samples: Sequence[Sample]) -> list[str]:
    """The class names of pictures that the run was trained on, by whatever pictures."""
    return sorted({class_name(one) for one in samples} & {*run.trained_on})


def rows_json(
    rows: Sequence[Row], run: Checkpoint[RunConfig], domain: Domain | None, by: Ranking = "serving"
) -> str:
    """The figures, 0..1, and how they were measured, as JSON."""
    size = (run.config.input.height, run.config.input.width)
    protocol = {"name": by, "size": size, "crop": run.config.input.crop, "domain": domain or "by data set"}
    return json.dumps({"protocol": protocol, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"


def _row(scorer: Scorer, name: str, samples: Sequence[Sample], by: Ranking, progress: Progress) -> Row:
    spec = scorer.run.config.input
    found = joined(scorer.score_samples(samples, (spec.height, spec.width), progress, f"score {name}"))
    labels = np.array([one.is_anomalous for one in samples])
    scores = found.ranking(by, scorer.domain).numpy()
    has_both = labels.any() and not labels.all()
    return Row(
        category=name,
        defects=ALL,
        pictures=int(labels.sum()),
        metrics=evaluate(scores, found.margins.numpy(), labels, [load_mask(one, spec) for one in samples]),
        interval=bootstrap_interval(labels, scores, auroc) if has_both else None,
        level_auroc={},
        dataset=samples[0].dataset,
    )
