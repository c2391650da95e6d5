"""`anomoe-train evaluate`: a checkpoint on test pictures, by category and by kind of defect.

Legend: n pictures, B of a batch, L levels, h w patch grid, Hm Wm map.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from rich.table import Column, Table
from torch import Tensor

from export.contract.decision import conformal_threshold
from export.contract.manifest import LEVELS
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.evaluation.protocol import Protocol, prepared, scaling
from training.anomalymoe.model.head import Head
from training.anomalymoe.scoring import judged, raw_levels
from training.data.component_masks import component_masks
from training.data.dataset import Place
from training.data.pictures import Sample, load_picture
from training.device import on_training_device
from training.reporting.measuring import find_test_samples, measure
from training.reporting.rows import Row, percent
from training.reporting.scored import Scored
from training.runs.kept_scores import Batch, KeptMaps, KeptScores, files_key, keep_scores, kept_in
from training.runs.resume import fingerprint

BATCH = 16
SERVED = Protocol()


def evaluate_checkpoint(  # noqa: PLR0917 - what is measured, on what, how
    checkpoint: Checkpoint,
    data: Place,
    progress: Progress,
    protocol: Protocol = SERVED,
    batch: int = BATCH,
    state: Path | None = None,
    sheets: Path | None = None,
) -> list[Row]:
    """Figures of every category with test pictures, then their means; see `measure`.

    protocol: how pictures are prepared and maps scaled; the service's by default. batch: pictures at a time.
    state: folder for what has been scored, that a stopped evaluation goes on from. sheets: folder for
    examples of each category. Raises DataError when there are no test pictures, and for a category the
    checkpoint does not know but has to.
    """
    checkpoint = prepared(checkpoint, data, protocol, progress)
    known = checkpoint.categories if protocol.needs_categories else None
    key = state_key(checkpoint, find_test_samples(data), protocol, batch)
    with kept_in(state, key) as folder:

        def score(members: list[Sample]) -> Scored:
            return score_samples(checkpoint, members, progress, protocol, batch, folder)

        return measure(score, data, checkpoint.config.input, known, sheets)


def score_samples(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    progress: Progress,
    protocol: Protocol = SERVED,
    batch: int = BATCH,
    folder: Path | None = None,
) -> Scored:
    """Score the test pictures of one category, by default as the service would when told the category.

    folder: where level maps are kept, by default in memory; maps are made of them when they are asked for.
    """

    def look(members: Sequence[Sample]) -> Batch:
        return _level_maps(checkpoint, members, protocol)

    with on_training_device(checkpoint.detector):
        kept = keep_scores(folder, samples, batch, look, progress, f"score {samples[0].category}")
    head = Head(checkpoint.config.map_size, checkpoint.detector.encoder.grid)
    scaled = scaling(protocol, map(_levels, kept), checkpoint.config.input)

    def draw(part: Batch) -> npt.NDArray[np.float32]:
        return head(scaled(*_levels(part))).map.numpy()

    scores, level_scores = _scores(kept, head, scaled)
    maps = KeptMaps(kept, draw)
    if protocol.normalise != "calibrated":
        return Scored(samples, scores, level_scores, maps)
    category, alpha = checkpoint.categories[samples[0].category], checkpoint.config.calibration.alpha
    alarms = scores > conformal_threshold(category.scores, alpha)
    return Scored(samples, scores, level_scores, maps, alarms, conformal_threshold(category.peaks, alpha))


def state_key(checkpoint: Checkpoint, samples: Sequence[Sample], protocol: Protocol, batch: int) -> str:
    """Tells checkpoints, pictures and ways of scoring apart."""
    arrays = [tensor.cpu().numpy() for tensor in checkpoint.detector.state_dict().values()]
    for one in checkpoint.categories.values():
        arrays += [value for value in vars(one).values() if isinstance(value, np.ndarray)]
    settings = [checkpoint.config.model_dump_json(), repr(protocol), str(batch), files_key(samples)]
    return fingerprint("\n".join(settings), arrays)


def _levels(part: Batch) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(part["levels"]), torch.from_numpy(part["gates"])


def _scores(
    kept: KeptScores, head: Head, scaled: Callable[[Tensor, Tensor], Tensor]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Scores (n,), of map and distance together, and level scores (n, L)."""
    outputs = [head(scaled(*_levels(part)))[1:] for part in kept]
    scores, level_scores = (torch.cat(parts).numpy() for parts in zip(*outputs, strict=True))
    return np.maximum(scores, kept.all("evidence")), level_scores


def rows_table(rows: Sequence[Row], protocol: Protocol = SERVED) -> Table:
    """The figures in percent, with the 95 % bootstrap interval of the image AUROC; the caption names all
    that the protocol does otherwise than the service.
    """
    columns = (
        "image AUROC",
        "95 %",
        "AP",
        "F1-max",
        "pixel AUROC",
        "AUPRO",
        "AUPIMO",
        "pixel F1",
        "false positives",
        "recall",
        *(f"{one} alone" for one in LEVELS),
    )
    caption = "; ".join(
        [
            "percent",
            "alone: image AUROC of that level's map",
            "pixel F1, false positives, recall: at the served thresholds",
            *protocol.deviations,
        ]
    )
    names = [
        Column(one, min_width=max(len(getattr(row, one)) for row in rows)) for one in ("category", "defects")
    ]
    table = Table(*names, "n", *columns, caption=caption)
    for row in rows:
        figures = row.metrics
        plain = (figures.image_ap, figures.image_f1_max, figures.pixel_auroc, figures.aupro)
        table.add_row(
            row.category,
            row.defects,
            str(row.pictures),
            percent(figures.image_auroc),
            " - ".join(map(percent, row.intervals.get("image_auroc", ()))),
            *map(percent, (*plain, figures.aupimo, row.pixel_f1, row.false_positive_rate, row.recall)),
            *(percent(row.level_auroc[level]) for level in LEVELS),
        )
    return table


def _level_maps(checkpoint: Checkpoint, samples: Sequence[Sample], protocol: Protocol) -> Batch:
    """levels (B, L, h, w) of pictures of one category, and evidence (B,), the score of their distances.

    gates (B, L): the largest of each level where maps are not calibrated, else 1.
    """
    detector, spec = checkpoint.detector, checkpoint.config.input
    pixels = torch.from_numpy(np.stack([load_picture(one.path, spec) for one in samples]))
    known = checkpoint.categories
    categories = [known[one.category] for one in samples] if protocol.needs_categories else []
    if protocol.normalise == "calibrated":
        levels, evidence = judged(detector, pixels, categories)
        gates = levels.new_ones(levels.shape[:2])
    else:
        grid = detector.encoder.grid
        masks = component_masks(protocol.masks, samples, spec, grid) if protocol.masks else None
        levels, gates = raw_levels(detector, pixels, categories, masks)
        evidence = torch.zeros(len(pixels))
    return {"levels": levels.numpy(), "evidence": evidence.numpy(), "gates": gates.numpy()}
