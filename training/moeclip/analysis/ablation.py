"""`anomoe-train ablate --method moeclip`: the variants of a table of the paper, trained and measured."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.progress import Progress

from training.data.dataset import Place, find_samples
from training.figures.heatmap import draw_below_each_other
from training.moeclip.analysis.results import Result, charts, results_json
from training.moeclip.analysis.variants import Variant, variants
from training.moeclip.backbone import Backbone, fill_clip, read_backbone
from training.moeclip.checkpoint import load_run, save_run
from training.moeclip.evaluation import evaluate_run
from training.moeclip.fit import fit
from training.moeclip.fit_config import MoECLIPFitConfig
from training.moeclip.model.adapters import Projection
from training.moeclip.model.detector import MoECLIP
from training.moeclip.scoring import Domain
from training.reporting.reference import Figure
from training.reporting.rows import MEAN
from training.reporting.tables import OURS, as_figure, dataset_means, with_average
from training.runs.files import REPORT, write_text

FINDINGS = "findings.json"


class Data(NamedTuple):
    """What is trained on and what is measured; they should have no class in common."""

    train: Place
    test: Path
    domain: Domain | None


def ablate(  # noqa: PLR0917 - what is varied, on what, from what, to where
    table: str,
    data: Data,
    output: Path,
    config: MoECLIPFitConfig,
    backbone: Backbone,
    progress: Progress,
    clips: Sequence[str] = (),
) -> list[Result]:
    """Train and measure every variant of a table in a folder of its own under `output`.

    One that is there with the same settings and pictures is not trained again. clips: those of Table 5. All
    figures are written to `table-<table>.json`, those of the paper's figures are drawn beside it. Raises as
    `fit` and `evaluate_run`, ValueError for a model without experts.
    """
    results: list[Result] = []
    folder = output / (table if table.startswith("figure") else f"table-{table}")
    for number, variant in enumerate(variants(table, config, clips)):
        results.append(_kept_or_found(variant, data, folder / f"{number:02d}", backbone, progress))
    write_text(folder.with_suffix(".json"), results_json(table, results))
    if table.startswith("figure"):
        draw_below_each_other(charts(table, results)).save(folder.with_suffix(".png"), optimize=True)
    return results


def _kept_or_found(
    variant: Variant, data: Data, folder: Path, backbone: Backbone, progress: Progress
) -> Result:
    key = _key(variant, data)
    kept = _kept(folder, key, variant.name)
    if kept is not None:
        return kept
    if variant.clip is not None:
        backbone = read_backbone(variant.clip, variant.config.model)
    _train(variant, data.train, folder, backbone, progress)
    rows = evaluate_run(load_run(folder), data.test, data.domain, progress)
    mean = as_figure(MEAN, OURS, rows[-1].metrics)  # over the categories where there are several
    figures = with_average(dataset_means(rows, "moeclip")) or [mean]
    losses: list[dict[str, float]] = json.loads((folder / REPORT).read_bytes()).get("losses", [])
    content = {"key": key, "figures": [one.model_dump() for one in figures], "losses": losses}
    write_text(folder / FINDINGS, json.dumps(content, indent=2) + "\n")
    return Result(variant.name, figures, losses)


def _train(variant: Variant, data: Place, folder: Path, backbone: Backbone, progress: Progress) -> None:
    if variant.is_trained:
        fit(data, folder, variant.config, backbone, progress)
        return
    model = MoECLIP(variant.config.model)
    fill_clip(model.clip, backbone, variant.config.model)
    with torch.no_grad():
        for projection in model.projections:  # CLIP's own, which it was trained to have after the last block
            assert isinstance(projection, Projection)
            projection.weight.copy_(model.clip.visual.proj.T)
    save_run(folder, variant.config, model, backbone.tokenizer)


def _kept(folder: Path, key: str, name: str) -> Result | None:
    """What was found in an earlier run with the same settings and pictures."""
    try:
        content = json.loads((folder / FINDINGS).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if content.get("key") != key:
        return None
    return Result(name, [Figure.model_validate(one) for one in content["figures"]], content["losses"])


def _key(variant: Variant, data: Data) -> str:
    """Changes with the settings and with any picture or mask."""
    digest = hashlib.sha256(
        f"{variant.config.model_dump_json()} {variant.is_trained} {variant.clip} {data.domain}".encode()
    )
    for one in [*find_samples(data.train), *find_samples(data.test)]:
        for path in (one.path, *one.mask_paths):
            digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()
