"""`anomoe-train ablate --method moeclip`: the variants of a table of the paper, trained and measured."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from rich.progress import Progress
from rich.table import Table

from training.data.dataset import Place, find_samples
from training.metrics import Metrics
from training.moeclip.analysis.variants import Variant, variants
from training.moeclip.backbone import Backbone, fill_clip
from training.moeclip.checkpoint import load_run, save_run
from training.moeclip.evaluation import evaluate_run
from training.moeclip.fit import fit
from training.moeclip.fit_config import MoECLIPFitConfig
from training.moeclip.model.adapters import Projection
from training.moeclip.model.detector import MoECLIP
from training.moeclip.scoring import Domain
from training.reporting.reference import Figure, reference_figures
from training.reporting.rows import percent
from training.runs.files import write_text

FINDINGS = "findings.json"


class Result(NamedTuple):
    """A variant of a table, and its mean over the categories (or its only one)."""

    name: str
    metrics: Metrics


class Data(NamedTuple):
    """What is trained on and what is measured; they should have no class in common."""

    train: Place
    test: Path
    domain: Domain | None


def ablate(
    table: str, data: Data, output: Path, config: MoECLIPFitConfig, backbone: Backbone, progress: Progress
) -> list[Result]:
    """Train and measure every variant of a table in a folder of its own under `output`.

    One that is there with the same settings and pictures is not trained again. Raises as `fit` and
    `evaluate_run`, ValueError for a model without experts.
    """
    results: list[Result] = []
    for number, variant in enumerate(variants(table, config)):
        folder = output / f"table-{table}" / f"{number:02d}"
        key = _key(variant, data)
        metrics = _kept(folder, key)
        if metrics is None:
            _train(variant, data.train, folder, backbone, progress)
            rows = evaluate_run(load_run(folder), data.test, data.domain, progress)
            metrics = rows[-1].metrics  # the mean where there are several categories
            content = {"key": key, "variant": variant.name, "metrics": asdict(metrics)}
            write_text(folder / FINDINGS, json.dumps(content, indent=2) + "\n")
        results.append(Result(variant.name, metrics))
    return results


def results_table(table: str, results: Sequence[Result]) -> Table:
    """One row a variant, in percent, with the paper's where it has a row of that name."""
    published = _published(table)
    names = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
    shown = Table("variant", *(name.replace("_", " ") for name in names))
    shown.caption = "percent, ours / paper (Table 2: its average over four data sets, else MVTec-AD)"
    for name, metrics in results:
        theirs = published[name].model_dump() if name in published else {}
        ours = asdict(metrics)
        shown.add_row(name, *(_cell(ours[one], theirs.get(one)) for one in names))
    return shown


def _cell(ours: float | None, theirs: float | None) -> str:
    return percent(ours) if theirs is None else f"{percent(ours)} / {theirs:.1f}"


def _published(table: str) -> dict[str, Figure]:
    if not table.isdecimal():
        return {}
    dataset = "Average" if table == "2" else "MVTec-AD"
    return {one.variant: one for one in reference_figures("moeclip", int(table)) if one.dataset == dataset}


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


def _kept(folder: Path, key: str) -> Metrics | None:
    """What was found in an earlier run with the same settings and pictures."""
    try:
        content = json.loads((folder / FINDINGS).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return Metrics(**content["metrics"]) if content.get("key") == key else None


def _key(variant: Variant, data: Data) -> str:
    """Changes with the settings and with any picture or mask."""
    digest = hashlib.sha256(f"{variant.config.model_dump_json()} {variant.is_trained} {data.domain}".encode())
    for one in [*find_samples(data.train), *find_samples(data.test)]:
        for path in (one.path, *one.mask_paths):
            digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()
