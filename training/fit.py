"""`anomoe-train fit`: normal pictures in, a calibrated checkpoint out."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict
from rich.progress import Progress

from export.contract.category import Category
from training.anomalymoe.detector import AnomalyMoE
from training.anomalymoe.head import Head
from training.anomalymoe.objective import Outcome
from training.anomalymoe.pretrained import load_pretrained
from training.calibration import calibrate, learn_product
from training.checkpoint import build_detector, load_weights, save_checkpoint, save_weights, write_text
from training.config import FitConfig
from training.data import DataError, Sample, find_samples, load_picture, split_holdout
from training.distributed import is_main, share_weights
from training.loop import NormalPictures, train_experts
from training.offline.encoder import OfflineEncoder
from training.offline.pretext import Check, train_backbone
from training.record import Record, expert_names
from training.resume import Resume, fingerprint

Pictures = npt.NDArray[np.uint8]

BACKBONE = "backbone.safetensors"
BACKBONE_KEY = "backbone.key"
BACKBONE_STATE = "backbone.state.safetensors"
EXPERTS_STATE = "experts.state.safetensors"
CURVES = "curves"


class Report(BaseModel):
    """What happened during a run: how many pictures, how the backbone was chosen, how the losses fell."""

    model_config = ConfigDict(frozen=True)

    pictures: int
    held_out: int
    backbone_checks: list[Check]
    losses: list[dict[str, float]]


class NormalSplit(NamedTuple):
    """Normal pictures for training and for calibration, with the pixels of all."""

    kept: list[Sample]
    held_out: list[Sample]
    pixels: dict[Sample, Pictures]

    def by_category(self, samples: Sequence[Sample]) -> dict[str, Pictures]:
        """Pictures (n, H, W, 3) of each category, by name in alphabetical order."""
        names = sorted({sample.category for sample in samples})
        return {
            name: np.stack([self.pixels[sample] for sample in samples if sample.category == name])
            for name in names
        }


def fit(
    data: Path, output: Path, config: FitConfig, weights: Path | None, progress: Progress
) -> dict[str, Category]:
    """Train on the normal pictures under `data` and write a checkpoint to `output`; returns its categories.

    weights: local file of a trained backbone. An offline backbone that was already trained into `output`,
    with the same settings on the same pictures, is used again, and a stopped training goes on. Of several
    processes only the first writes, shows progress, and returns categories; the others return none.
    Raises DataError when there are no normal pictures, WeightsError when the backbone's weights do not fit,
    ParallelError when a batch cannot be shared evenly, ResumeError for a state that cannot be read.
    """
    torch.set_flush_denormal(True)  # late in training, denormal numbers make a CPU several times slower
    split = _read(data, config, progress)
    torch.manual_seed(config.train.seed)
    detector = build_detector(config)
    checks = _fill_encoder(detector, split, output, config, weights, progress) if is_main() else []
    share_weights(detector)
    components = config.calibration.components
    products = split.by_category(split.kept)
    known = {name: learn_product(detector, pictures, components) for name, pictures in products.items()}
    normal = NormalPictures(
        pixels=np.concatenate(list(products.values())),
        products=np.repeat(np.arange(len(products)), [len(pictures) for pictures in products.values()]),
        centres={product: known[name].centres for product, name in enumerate(products)},
    )
    record = Record(output / CURVES if is_main() else None, expert_names(detector.levels), config.train.steps)
    resume = _resume(detector, normal, output, config, record)
    _train(detector, normal, config, record, resume, progress)
    if not is_main():
        return {}
    head = Head(config.map_size)
    held_out = split.by_category(split.held_out)
    categories = {
        name: calibrate(detector, head, name, known[name], held_out[name])
        for name in progress.track(products, description="calibrate")
    }
    report = Report(
        pictures=len(split.kept), held_out=len(split.held_out), backbone_checks=checks, losses=record.losses
    )
    save_checkpoint(output, config, detector, categories.values(), report.model_dump())
    resume.remove()
    return categories


def _read(data: Path, config: FitConfig, progress: Progress) -> NormalSplit:
    normal = [one for one in find_samples(data) if one.split == "train" and not one.is_anomalous]
    if not normal:
        raise DataError(f"{data}: no normal training pictures (train/good) found")
    kept, held_out = split_holdout(normal, config.calibration.holdout)
    pixels = {one: load_picture(one.path, config.input) for one in progress.track(normal, description="read")}
    return NormalSplit(kept, held_out, pixels)


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
    if not isinstance(encoder, OfflineEncoder):
        detector.encoder = load_pretrained(config.backbone, weights, config.encoder.image_size)
        detector.encoder.requires_grad_(False)
        return []
    if weights is not None:
        load_weights(weights, encoder)
        return []
    pictures, held_out = (
        np.stack([split.pixels[one] for one in part]) for part in (split.kept, split.held_out)
    )
    key = fingerprint(_settings(config, {"encoder", "input", "pretext"}), (pictures, held_out))
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


def _settings(config: FitConfig, sections: set[str]) -> str:
    """Some sections as JSON, less what does not change the result."""
    return config.model_dump_json(
        include=sections, exclude={"train": {"save_every"}, "pretext": {"save_every"}}
    )


def _resume(
    detector: AnomalyMoE, normal: NormalPictures, output: Path, config: FitConfig, record: Record
) -> Resume:
    """Where the training of router and experts is kept, under a key that tells their settings and data."""
    encoder = detector.get_submodule("encoder").state_dict()
    arrays = (normal.pixels, normal.products, *(tensor.numpy() for tensor in encoder.values()))
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

    def on_step(step: int, outcome: Outcome) -> None:
        if record.add(step, outcome):
            loss = record.losses[-1]["total"]
            progress.update(task, completed=step, description=f"experts, loss {loss:.3f}")

    train_experts(detector, normal, config.train, on_step, resume)
    record.close()
