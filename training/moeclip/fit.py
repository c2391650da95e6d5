"""`anomoe-train fit --method moeclip`: a CLIP and pictures with masks in, a run out."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from rich.progress import Progress

from training.data.dataset import Place, find_samples
from training.data.pictures import Sample
from training.device import denormals_as_zero
from training.distributed import is_main
from training.moeclip.auxiliary import AuxiliarySet, auxiliary_samples, class_name
from training.moeclip.backbone import Backbone, fill_clip
from training.moeclip.checkpoint import save_run
from training.moeclip.fit_config import MoECLIPFitConfig
from training.moeclip.loop import Curves, train_adapters
from training.moeclip.model.detector import MoECLIP
from training.runs.half_precision import round_to_half
from training.runs.record import Record
from training.runs.resume import Resume, fingerprint

STATE = "adapters.state.safetensors"
CURVES = "curves"


class Report(BaseModel):
    """What happened during a run: which pictures it saw, and how the losses fell."""

    model_config = ConfigDict(frozen=True)

    classes: list[str]
    good_pictures: int
    anomalous_pictures: int
    steps: int
    losses: list[dict[str, float]]


@denormals_as_zero()
def fit(
    data: Place, output: Path, config: MoECLIPFitConfig, backbone: Backbone, progress: Progress
) -> Report:
    """Train adapters on the pictures of the splits in question under `data`, and write a run to `output`.

    A stopped training with the same settings, pictures and CLIP goes on where it was.
    Raises DataError when there are no good or no marked anomalous pictures, ParallelError for a batch that
    the processes of torchrun cannot share,
    WeightsError for another backbone than the settings ask for, DivergedError for a loss that is not finite,
    ResumeError for a state that cannot be read.
    """
    samples = auxiliary_samples(find_samples(data), data, config.train.splits)
    torch.manual_seed(config.train.seed)
    detector = MoECLIP(config.model)
    fill_clip(detector.clip, backbone, config.model)
    auxiliary = AuxiliarySet(samples, config.input)
    steps = config.train.total_steps(len(samples))
    record = Record(output / CURVES if is_main() else None, steps)
    resume = Resume(
        output / STATE, state_key(config, samples, detector), config.train.save_every, {"record": record}
    )
    task = progress.add_task("adapters", total=steps)

    def on_step(step: int, curves: Curves) -> None:
        if record.add(step, curves):
            progress.update(task, description=f"adapters, loss {record.losses[-1]['total']:.3f}")
        progress.update(task, completed=step)

    train_adapters(detector, backbone.tokenizer, auxiliary, config.train, on_step, resume)
    record.close()
    if config.train.half_weights:
        round_to_half(detector)
    report = _report(auxiliary, steps, record)
    if is_main():
        save_run(output, config, detector, backbone.tokenizer, report=report.model_dump())
    resume.remove()
    return report


def state_key(config: MoECLIPFitConfig, samples: Sequence[Sample], detector: MoECLIP) -> str:
    """Tells settings, pictures (by name and size of their files) and CLIP apart."""
    files = [f"{class_name(one)}/{one.split}/{one.kind}/{one.path.name} {_sizes(one)}" for one in samples]
    settings = config.model_dump_json(exclude={"train": {"save_every"}})
    weights = (tensor.numpy() for tensor in detector.clip.state_dict().values())
    return fingerprint("\n".join([settings, *files]), weights)


def _sizes(sample: Sample) -> list[int]:
    return [path.stat().st_size for path in (sample.path, *sample.mask_paths)]


def _report(data: AuxiliarySet, steps: int, record: Record) -> Report:
    anomalous = int(data.is_anomalous.sum())
    return Report(
        classes=sorted(set(data.names)),
        good_pictures=len(data) - anomalous,
        anomalous_pictures=anomalous,
        steps=steps,
        losses=record.losses,
    )
