"""`anomoe-train evaluate` of a MoECLIP run: figures by category, whole pictures at model size.

As in the paper 518 pixels without a crop, masks resized nearest; protocols differ in the image score.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress

from export.contract.names import canonical_name
from training.data.dataset import Place
from training.data.pictures import Sample
from training.data.sets.known import find_known
from training.device import on_training_device
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.model.maps import margin_map
from training.moeclip.scoring import BATCH, Domain, Ranking, Scorer, ranking
from training.reporting.measuring import by_category, category_rows, find_test_samples
from training.reporting.rows import Row, mean_rows
from training.reporting.scored import Scored
from training.runs.kept_scores import Batch, KeptMaps, files_key, keep_scores, kept_in
from training.runs.resume import fingerprint

logger = logging.getLogger(__name__)

RANKED: dict[Ranking, str] = {
    "serving": "images ranked by the margin of the served score",
    "paper": "images ranked by Eq. 14",
    "moeclip": "images ranked as released: map and score scaled by their range over the TEST SET, "
    "for reproducing papers only",
}


def evaluate_run(  # noqa: PLR0913, PLR0917 - what is measured, on what, how
    run: Checkpoint[RunConfig],
    data: Place,
    domain: Domain | None,
    progress: Progress,
    by: Ranking = "serving",
    batch: int = BATCH,
    state: Path | None = None,
    sheets: Path | None = None,
) -> list[Row]:
    """Figures of every category with test pictures, then their mean; by: see `ranking`.

    domain: None for medical where the pictures are of a known medical data set, else industrial.
    state: folder for what has been scored, that a stopped evaluation goes on from. sheets: folder for
    examples of each category. Classes that the run was trained on are told: nothing is zero-shot there.
    Where all pictures are anomalous, or none has a mask, there are pixel or image figures alone.
    Raises DataError when there are no test pictures.
    """
    test = [replace(one, category=canonical_name(one.category)) for one in find_test_samples(data)]
    if seen := seen_classes(run, test):
        logger.warning("%s: the run was trained on %s, which is not zero-shot", data, ", ".join(seen))
    scorer = Scorer(run, sorted({class_name(one) for one in test}), "industrial", batch)
    rows: list[Row] = []
    with kept_in(state, _state_key(run, test, domain, batch)) as folder:
        for name, members in by_category(test).items():
            scorer.domain = domain or _domain(members[0])
            scored = _score(scorer, members, by, folder, progress)
            rows += category_rows(name, scored, run.config.input, sheets, all_only=True)
    return rows + mean_rows(rows)


def _score(
    scorer: Scorer, samples: Sequence[Sample], by: Ranking, folder: Path, progress: Progress
) -> Scored:
    """Pictures of one category; kept are the margins of their patches, of which the maps are made."""
    spec = scorer.run.config.input
    size = (spec.height, spec.width)

    def look(members: Sequence[Sample]) -> Batch:
        found = scorer.score_batch(members, size)
        names = ("patches", "highest", "logits", "released")
        return {name: getattr(found, name).numpy() for name in names}

    with on_training_device(scorer.run.model):
        kept = keep_scores(folder, samples, scorer.batch, look, progress, f"score {samples[0].category}")
    medical, grid = scorer.domain == "medical", scorer.run.model.grid

    def draw(part: Batch) -> npt.NDArray[np.float32]:
        patches = torch.from_numpy(part["patches"])
        return margin_map(patches, torch.full((len(patches),), medical), grid, size).numpy()

    highest, logits, released = (
        torch.from_numpy(kept.all(name)) for name in ("highest", "logits", "released")
    )
    scores = ranking(highest, logits, released, by, medical=medical).numpy()
    return Scored(samples, scores, np.empty((len(samples), 0)), KeptMaps(kept, draw))


def _state_key(
    run: Checkpoint[RunConfig], samples: Sequence[Sample], domain: Domain | None, batch: int
) -> str:
    """Tells runs, pictures, their class names and ways of scoring apart."""
    names = repr([(class_name(one), domain or _domain(one)) for one in samples])
    settings = [run.config.model_dump_json(), run.tokenizer.to_str(), str(batch), names, files_key(samples)]
    weights = (tensor.cpu().numpy() for tensor in run.model.state_dict().values())
    return fingerprint("\n".join(settings), weights)


def _domain(sample: Sample) -> Domain:
    dataset = find_known(sample.dataset)
    return "medical" if dataset and dataset.is_medical else "industrial"


def seen_classes(run: Checkpoint[RunConfig], samples: Sequence[Sample]) -> list[str]:
    """The class names of pictures that the run was trained on, by whatever pictures."""
    return sorted({class_name(one) for one in samples} & {*run.trained_on})


def protocol_json(
    run: Checkpoint[RunConfig], domain: Domain | None, by: Ranking = "serving"
) -> dict[str, Any]:
    """How figures were measured, ready for JSON."""
    size = (run.config.input.height, run.config.input.width)
    return {"name": by, "size": size, "crop": run.config.input.crop, "domain": domain or "by data set"}
