"""`anomoe-train fit`: normal pictures in, a calibrated checkpoint out."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from rich.progress import Progress

from export.contract.category import Category
from training.anomalymoe.detector import AnomalyMoE
from training.anomalymoe.encoder import VisionTransformer
from training.anomalymoe.objective import Losses
from training.anomalymoe.pretrained import load_pretrained
from training.checkpoint import build_detector, load_weights, save_checkpoint, save_weights, write_text
from training.config import FitConfig
from training.loop import NormalPictures, train_experts
from training.offline.encoder import OfflineEncoder
from training.offline.pretext import Check, train_backbone
from training.products import NormalSplit, Pictures, calibrate_products, learn_products, read_normal

BACKBONE = "backbone.safetensors"
BACKBONE_KEY = "backbone.key"
LOG_EVERY = 50


class Report(BaseModel):
    """What happened during a run: how many pictures, how the backbone was chosen, how the losses fell."""

    model_config = ConfigDict(frozen=True)

    pictures: int
    held_out: int
    backbone_checks: list[Check]
    losses: list[dict[str, float]]


def fit(
    data: Path, output: Path, config: FitConfig, weights: Path | None, progress: Progress
) -> dict[str, Category]:
    """Train on the normal pictures under `data` and write a checkpoint to `output`; returns its categories.

    weights: local file of a trained backbone. An offline backbone that was already trained into `output`,
    with the same settings on the same pictures, is used again.
    Raises DataError when there are no normal pictures, WeightsError when the backbone's weights do not fit.
    """
    torch.set_flush_denormal(True)  # late in training, denormal numbers make a CPU several times slower
    split = read_normal(data, config, progress)
    torch.manual_seed(config.train.seed)
    detector = build_detector(config)
    checks = _fill_encoder(detector, split, output, config, weights, progress)
    known = learn_products(detector, split, config)
    products = split.by_category(split.kept)
    normal = NormalPictures(
        pixels=np.concatenate(list(products.values())),
        products=np.repeat(np.arange(len(products)), [len(pictures) for pictures in products.values()]),
        centres={product: known[name].centres for product, name in enumerate(products)},
    )
    losses = _train(detector, normal, config, progress)
    categories = calibrate_products(detector, split, known, config, progress)
    report = Report(
        pictures=len(split.kept), held_out=len(split.held_out), backbone_checks=checks, losses=losses
    )
    save_checkpoint(output, config, detector, categories.values(), report.model_dump())
    return categories


def _fill_encoder(
    detector: AnomalyMoE,
    split: NormalSplit,
    output: Path,
    config: FitConfig,
    weights: Path | None,
    progress: Progress,
) -> list[Check]:
    """Pretrained weights, or an offline backbone from `output` or trained now."""
    encoder = detector.encoder
    if isinstance(encoder, VisionTransformer):
        load_pretrained(encoder, config.backbone, weights)
        return []
    assert isinstance(encoder, OfflineEncoder)
    if weights is not None:
        load_weights(weights, encoder)
        return []
    pictures, held_out = (
        np.stack([split.pixels[one] for one in part]) for part in (split.kept, split.held_out)
    )
    key = _fingerprint(pictures, held_out, config)
    if (output / BACKBONE_KEY).is_file() and (output / BACKBONE_KEY).read_text() == key:
        load_weights(output / BACKBONE, encoder)
        return []
    assert config.pretext is not None
    task = progress.add_task("backbone", total=config.pretext.steps)
    trained, checks = train_backbone(
        pictures,
        held_out,
        encoder.config,
        config.pretext,
        lambda step, loss: progress.update(task, completed=step, description=f"backbone, loss {loss:.3f}"),
    )
    encoder.load_state_dict(trained.state_dict())
    output.mkdir(parents=True, exist_ok=True)
    # A run stopped between the two files must not leave new weights under an old key.
    (output / BACKBONE_KEY).unlink(missing_ok=True)
    save_weights(output / BACKBONE, encoder)
    write_text(output / BACKBONE_KEY, key)
    return checks


def _fingerprint(pictures: Pictures, held_out: Pictures, config: FitConfig) -> str:
    digest = hashlib.sha256(config.model_dump_json(include={"encoder", "input", "pretext"}).encode())
    digest.update(pictures.tobytes())
    digest.update(held_out.tobytes())
    return digest.hexdigest()


def _train(
    detector: AnomalyMoE, normal: NormalPictures, config: FitConfig, progress: Progress
) -> list[dict[str, float]]:
    """Train router and experts; returns the mean losses of every LOG_EVERY steps."""
    task = progress.add_task("experts", total=config.train.steps)
    recent: list[Losses] = []
    history: list[dict[str, float]] = []

    def on_step(step: int, losses: Losses) -> None:
        recent.append(losses)
        if step % LOG_EVERY == 0 or step == config.train.steps:
            means = {name: fmean(float(one) for one in column) for name, column in _columns(recent)}
            history.append({"step": float(step), **means})
            recent.clear()
            description = f"experts, loss {means['total']:.3f}"
            progress.update(task, completed=step, description=description)

    train_experts(detector, normal, config.train, on_step)
    return history


def _columns(losses: Sequence[Losses]) -> list[tuple[str, list[float]]]:
    return [(name, [getattr(one, name).item() for one in losses]) for name in Losses._fields]
