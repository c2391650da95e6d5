"""`anomoe-train evaluate` of a MoECLIP run: figures by class name, whole pictures at model size.

The protocol `moeclip` of the paper: 518 pixels without a crop, masks resized nearest.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from rich.progress import Progress

from training.data.dataset import Place, find_samples
from training.data.pictures import DataError, Sample, load_mask
from training.metrics import auroc, bootstrap_interval, evaluate
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.scoring import Domain, Scorer, joined
from training.reporting.rows import ALL, Row, mean_rows


def evaluate_run(run: Checkpoint[RunConfig], data: Place, domain: Domain, progress: Progress) -> list[Row]:
    """Figures of every class name with test pictures, then their mean.

    Where all pictures are anomalous, or none has a mask, there are pixel or image figures alone.
    Raises DataError when there are no test pictures.
    """
    test = [one for one in find_samples(data) if one.split == "test"]
    if not test:
        raise DataError(f"{data}: no test pictures (test/<kind>) found")
    names = sorted({class_name(one) for one in test})
    scorer = Scorer(run, names, domain)
    rows = [_row(scorer, name, [one for one in test if class_name(one) == name], progress) for name in names]
    return rows + mean_rows(rows)


def rows_json(rows: Sequence[Row], run: Checkpoint[RunConfig], domain: Domain) -> str:
    """The figures, 0..1, and how they were measured, as JSON."""
    size = (run.config.input.height, run.config.input.width)
    protocol = {"name": "moeclip", "size": size, "crop": run.config.input.crop, "domain": domain}
    return json.dumps({"protocol": protocol, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"


def _row(scorer: Scorer, name: str, samples: Sequence[Sample], progress: Progress) -> Row:
    spec = scorer.run.config.input
    found = joined(scorer.score_samples(samples, (spec.height, spec.width), progress, f"score {name}"))
    labels = np.array([one.is_anomalous for one in samples])
    scores = found.score.numpy()
    has_both = labels.any() and not labels.all()
    return Row(
        category=name,
        defects=ALL,
        pictures=int(labels.sum()),
        metrics=evaluate(scores, found.margins.numpy(), labels, [load_mask(one, spec) for one in samples]),
        interval=bootstrap_interval(labels, scores, auroc) if has_both else None,
        level_auroc={},
    )
