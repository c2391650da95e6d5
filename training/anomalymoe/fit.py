"""`anomoe-train fit`: normal pictures in, a calibrated checkpoint out."""

import json
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from rich.progress import Progress

from export.contract.category import Category
from training.anomalymoe.checkpoint import build_detector, save_checkpoint
from training.anomalymoe.fit_config import FitConfig
from training.anomalymoe.loop import NormalPictures, train_experts
from training.anomalymoe.losses.objective import Outcome, expert_names
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.products import (
    NormalSplit,
    calibrate_products,
    cross_calibrate_products,
    find_normal,
    learn_products,
    read_normal,
)
from training.anomalymoe.resolution import choose_resolution
from training.anomalymoe.weights.pretrained import load_pretrained
from training.anomalymoe.weights.stages import load_stages
from training.backbones.conv import ConvEncoder
from training.backbones.offline.encoder import OfflineEncoder
from training.backbones.offline.pretext import Check, train_backbone
from training.backbones.vit import VisionTransformer
from training.data.dataset import Place
from training.data.sets.samples import DataError
from training.data.store import PictureRows, batches
from training.device import denormals_as_zero, on_training_device
from training.distributed import is_main, share_weights
from training.runs.files import load_weights, save_weights, write_text
from training.runs.record import Record
from training.runs.resume import Resume, fingerprint

BACKBONE = "backbone.safetensors"
BACKBONE_KEY = "backbone.key"
BACKBONE_STATE = "backbone.state.safetensors"
EXPERTS_STATE = "experts.state.safetensors"
CURVES = "curves"
BATCH = 16
MOST_STANDARDISED = 2000  # random pictures that mean and spread of each channel are taken from


class Report(BaseModel):
    """What happened during a run: how many pictures, how the backbone was chosen, how the losses fell."""

    model_config = ConfigDict(frozen=True)

    pictures: int
    held_out: int
    backbone_checks: list[Check]
    losses: list[dict[str, float]]


@denormals_as_zero()
def fit(
    data: Place, output: Path, config: FitConfig, weights: Path | None, progress: Progress
) -> dict[str, Category]:
    """Train on the normal pictures under `data` and write a checkpoint to `output`; returns its categories.

    weights: local file of a trained backbone. An offline backbone that was already trained into `output`,
    with the same settings on the same pictures, is used again, and a stopped training goes on. Of several
    processes only the first writes, shows progress, and returns categories; the others return none.
    Raises DataError when there are no normal pictures, or not two different ones of each category or fewer
    patches than components, WeightsError when the backbone's weights do not fit,
    ParallelError when a batch cannot be shared evenly, ResumeError for a state that cannot be read.
    """
    normal_samples = find_normal(data)
    config = choose_resolution(normal_samples, config, weights, progress)
    split = read_normal(normal_samples, config, progress)
    torch.manual_seed(config.train.seed)
    detector = build_detector(config)
    _check_enough(split, config, prod(detector.encoder.grid))
    checks = _fill_encoder(detector, split, output, config, weights, progress) if is_main() else []
    share_weights(detector)
    known = learn_products(detector, split, config, progress)
    products = split.by_category(split.kept)
    normal = NormalPictures(
        pixels=PictureRows(split.store, [one for rows in products.values() for one in rows.samples]),
        products=np.repeat(np.arange(len(products)), [len(pictures) for pictures in products.values()]),
        centres={product: known[name].centres for product, name in enumerate(products)},
    )
    record = Record(output / CURVES if is_main() else None, config.train.steps)
    resume = _resume(detector, split, output, config, record)
    _train(detector, normal, config, record, resume, progress)
    if not is_main():
        return {}
    if split.held_out:
        categories = calibrate_products(detector, split, known, config, progress)
    else:
        categories = cross_calibrate_products(detector, split, normal, known, config, progress)
    report = Report(
        pictures=len(split.kept), held_out=len(split.held_out), backbone_checks=checks, losses=record.losses
    )
    save_checkpoint(output, config, detector, categories.values(), report.model_dump())
    resume.remove()
    return categories


def _check_enough(split: NormalSplit, config: FitConfig, patches: int) -> None:
    """Raise DataError, before hours of training, for pictures that no product can be calibrated on.

    patches: of one picture.
    """
    for name, kept in split.by_category(split.kept).items():
        if (most := len(kept) * patches) < config.calibration.components:
            raise DataError(
                f"category {name!r}: calibration.components must be at most {most}, the patches of its "
                f"training pictures, got {config.calibration.components}"
            )


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
    if isinstance(encoder, ConvEncoder):
        load_stages(encoder, weights)
        _standardise(detector, encoder, split, progress)
        return []
    assert isinstance(encoder, OfflineEncoder)
    if weights is not None:
        load_weights(weights, encoder)
        return []
    pictures, held_out = (
        PictureRows(split.store, part) for part in (split.kept, split.held_out or split.kept)
    )
    digests = chain(pictures.digests(), held_out.digests())
    key = fingerprint(_settings(config, {"encoder", "input", "pretext"}), digests)
    if (output / BACKBONE_KEY).is_file() and (output / BACKBONE_KEY).read_text() == key:
        load_weights(output / BACKBONE, encoder)
        return []
    assert config.pretext is not None
    task = progress.add_task("backbone", total=config.pretext.steps)
    resume = Resume(output / BACKBONE_STATE, key, config.pretext.save_every)
    trained, checks = train_backbone(
        pictures,
        held_out,
        encoder.config,
        config.pretext,
        lambda step, loss: progress.update(task, completed=step, description=f"backbone, loss {loss:.3f}"),
        resume,
    )
    encoder.load_state_dict(trained.state_dict())
    output.mkdir(parents=True, exist_ok=True)
    # A run stopped between the two files must not leave new weights under an old key.
    (output / BACKBONE_KEY).unlink(missing_ok=True)
    save_weights(output / BACKBONE, encoder)
    write_text(output / BACKBONE_KEY, key)
    resume.remove()
    return checks


def _standardise(detector: AnomalyMoE, encoder: ConvEncoder, split: NormalSplit, progress: Progress) -> None:
    order = np.random.default_rng(0).permutation(len(split.kept))[:MOST_STANDARDISED]
    pictures = PictureRows(split.store, [split.kept[row] for row in np.sort(order)])
    parts = progress.track(
        batches(pictures, BATCH), total=-(-len(pictures) // BATCH), description="standardise"
    )
    with on_training_device(detector):
        encoder.standardise(detector.normalise(torch.from_numpy(part)) for part in parts)


def _settings(config: FitConfig, sections: set[str]) -> str:
    """Some sections as JSON, less what does not change the result."""
    return config.model_dump_json(
        include=sections, exclude={"train": {"save_every"}, "pretext": {"save_every"}}
    )


def _resume(
    detector: AnomalyMoE, split: NormalSplit, output: Path, config: FitConfig, record: Record
) -> Resume:
    """Where the training of router and experts is kept, under a key that tells their settings and data."""
    encoder = detector.get_submodule("encoder").state_dict()
    names = np.frombuffer(json.dumps([one.category for one in split.kept]).encode(), np.uint8)
    digests = PictureRows(split.store, split.kept).digests()
    arrays = chain((names, *(tensor.numpy() for tensor in encoder.values())), digests)
    settings = _settings(config, {"encoder", "input", "detector", "train", "calibration"})
    key = fingerprint(settings, arrays)
    return Resume(output / EXPERTS_STATE, key, config.train.save_every, {"record": record})


def _train(
    detector: AnomalyMoE,
    normal: NormalPictures,
    config: FitConfig,
    record: Record,
    resume: Resume,
    progress: Progress,
) -> None:
    """Train router and experts with every step on record."""
    task = progress.add_task("experts", total=config.train.steps)
    names = expert_names(detector.levels)

    def on_step(step: int, outcome: Outcome) -> None:
        if not record.add(step, outcome.values(names)):
            progress.update(task, completed=step)
            return
        loss = record.losses[-1]["total"]
        progress.update(task, completed=step, description=f"experts, loss {loss:.3f}")
        if len(record.losses) == 1 and is_main():
            chosen, extra = record.latest["passes/chosen"], record.latest["passes/extra"]
            progress.console.print(
                f"experts run for a picture: {chosen:.1f} that it chose, {extra:.1f} more for repulsion "
                f"({config.detector.eir.pairs})"
            )

    train_experts(detector, normal, config.train, on_step, resume, config.data.kept_bytes, progress=progress)
    record.close()
