"""What `anomoe-export build` does: read the run, export it, and measure what was lost on the way."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from export.bundles.anomalymoe import Choice, build_bundle
from export.bundles.moeclip import Run as ZeroShotRun
from export.bundles.moeclip import build_zero_shot_bundle
from export.contract.bundle import Bundle
from export.contract.provenance import Format, Precision
from export.formats.forms import Form
from export.verify.accuracy import Accuracy, measure_accuracy, read_test_samples
from export.verify.anomalymoe import compare
from export.verify.comparison import Comparison
from export.verify.moeclip import Served, compare_zero_shot, read_class_samples
from service.inference.anomalymoe import Engine
from service.inference.backends.base import Device
from training.anomalymoe.checkpoint import load_checkpoint
from training.data.dataset import find_samples
from training.data.pictures import DataError, Sample, load_pixels
from training.moeclip.checkpoint import load_run
from training.moeclip.scoring import Scorer
from training.runs.files import read_method

MOST_NORMAL = 64  # pictures that activation ranges are taken from


@dataclass(frozen=True)
class Request:
    """What is asked for; see the options of the command."""

    name: str
    version: str
    format: Format
    precision: Precision
    categories: tuple[str, ...] | None
    keep_unused: bool
    data: Path | None


def assemble(run: Path, output: Path, request: Request, progress: Progress) -> tuple[Bundle, list[Accuracy]]:
    """Build a bundle; with data that has test pictures, compare it with the whole run on them.

    Raises what `load_checkpoint`, `build_bundle` and `measure_accuracy` raise; DataError for data without
    what is needed of it.
    """
    if read_method(run) == "moeclip":
        return _assemble_zero_shot(load_run(run), output, request, progress)
    form = Form(request.format, request.precision)
    task = progress.add_task("read", total=None)
    checkpoint = load_checkpoint(run)
    normal = _normal(request)
    samples = []
    if request.data and _has_tests(request.data):
        samples = read_test_samples(request.data, request.categories or tuple(checkpoint.categories))
    choice = Choice(
        form,
        request.categories,
        request.keep_unused,
        load_pixels(normal, checkpoint.config.input) if normal else None,
    )
    bundle = build_bundle(
        checkpoint,
        output,
        request.name,
        request.version,
        choice,
        lambda key: progress.update(task, description=f"exported {key}"),
    )
    if not samples:
        return bundle, []
    return bundle, measure_accuracy(Engine(bundle, device="cpu"), checkpoint, samples, progress)


def compare_run(
    bundle: Bundle, run: Path, data: Path | None, progress: Progress, device: Device = "cpu"
) -> Comparison:
    """Compare a bundle with the run it was made from, see `compare` and `compare_zero_shot`.

    Raises what these and the readers of runs raise; ValueError for a run of the other method.
    """
    method = read_method(run)
    if method != bundle.manifest.kind:
        raise ValueError(f"{run}: a run of {method}, the bundle is of kind {bundle.manifest.kind}")
    if method == "anomalymoe":
        return compare(bundle, load_checkpoint(run), data, progress, device)
    return compare_zero_shot(bundle, load_run(run), data, progress, device)


def _assemble_zero_shot(
    run: ZeroShotRun, output: Path, request: Request, progress: Progress
) -> tuple[Bundle, list[Accuracy]]:
    if request.categories is not None:
        raise ValueError("categories: a zero-shot bundle carries all calibrated class names")
    form = Form(request.format, request.precision)
    samples = read_class_samples(request.data) if request.data and _has_tests(request.data) else []
    task = progress.add_task("export", total=None)
    bundle = build_zero_shot_bundle(
        run,
        output,
        request.name,
        request.version,
        form,
        _normal(request),
        on_graph=lambda key: progress.update(task, description=f"exported {key}"),
    )
    if not samples:
        return bundle, []
    names = sorted({one.category for one in samples})
    return bundle, Served(bundle, names).measure(Scorer(run, names, "industrial"), samples, progress)


def _has_tests(data: Path) -> bool:
    return any(one.split == "test" for one in find_samples(data))


def _normal(request: Request) -> list[Sample]:
    """Normal training pictures from all over the data set, for activation ranges if these are asked for."""
    if request.precision != "int8-static" or request.data is None:
        return []
    normal = [one for one in find_samples(request.data) if one.split == "train" and not one.is_anomalous]
    if not normal:
        raise DataError(f"{request.data}: no normal training pictures (train/good) found")
    spread = np.linspace(0, len(normal) - 1, min(MOST_NORMAL, len(normal))).astype(int)
    return [normal[place] for place in spread]
