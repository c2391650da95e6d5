"""What `anomoe-export build` does: read the run, export it, and measure what was lost on the way."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from export.accuracy import Accuracy, measure_accuracy, read_test_samples
from export.build import Choice, build_bundle
from export.contract.bundle import Bundle
from export.contract.manifest import InputSpec
from export.contract.preprocess import Pixels
from export.contract.provenance import Format, Precision
from export.forms import Form
from export.verify import Comparison, compare
from export.zero_shot import Run as ZeroShotRun
from export.zero_shot import build_zero_shot_bundle, compare_zero_shot
from service.engine import Engine
from training.checkpoint import Checkpoint, load_checkpoint, read_method
from training.data import DataError, Sample, find_samples, load_picture
from training.moeclip.checkpoint import load_run

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
        return _assemble_zero_shot(load_run(run), output, request, progress), []
    form = Form(request.format, request.precision)
    task = progress.add_task("read", total=None)
    checkpoint = load_checkpoint(run)
    is_static = request.precision == "int8-static"
    normal = _normal(request.data, checkpoint.config.input) if is_static and request.data else None
    samples = [] if request.data is None else _test_samples(request, request.data, checkpoint)
    choice = Choice(form, request.categories, request.keep_unused, normal)
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


def compare_run(bundle: Bundle, run: Path, data: Path | None, progress: Progress) -> Comparison:
    """Compare a bundle with the run it was made from, see `compare` and `compare_zero_shot`.

    Raises what these and the readers of runs raise; ValueError for a run of the other method, and for test
    pictures with a zero-shot run.
    """
    method = read_method(run)
    if method != bundle.manifest.kind:
        raise ValueError(f"{run}: a run of {method}, the bundle is of kind {bundle.manifest.kind}")
    if method == "anomalymoe":
        return compare(bundle, load_checkpoint(run), data, progress)
    _refuse_data(data)
    return compare_zero_shot(bundle, load_run(run), progress)


def _assemble_zero_shot(run: ZeroShotRun, output: Path, request: Request, progress: Progress) -> Bundle:
    _refuse_data(request.data)
    if request.categories is not None:
        raise ValueError("categories: a zero-shot bundle carries all calibrated class names")
    task = progress.add_task("export", total=None)
    return build_zero_shot_bundle(
        run,
        output,
        request.name,
        request.version,
        Form(request.format, request.precision),
        lambda key: progress.update(task, description=f"exported {key}"),
    )


def _refuse_data(data: Path | None) -> None:
    if data is not None:
        raise ValueError("data: what a zero-shot run is worth is measured by `anomoe-train evaluate`")


def _test_samples(request: Request, data: Path, checkpoint: Checkpoint) -> list[Sample]:
    """The test pictures of the products that are asked for; none where the data set has no test pictures."""
    if not any(one.split == "test" for one in find_samples(data)):
        return []
    return read_test_samples(data, request.categories or tuple(checkpoint.categories))


def _normal(data: Path, spec: InputSpec) -> Pixels:
    """Normal training pictures (n, H, W, 3) from all over a data set."""
    normal = [one for one in find_samples(data) if one.split == "train" and not one.is_anomalous]
    if not normal:
        raise DataError(f"{data}: no normal training pictures (train/good) found")
    spread = np.linspace(0, len(normal) - 1, min(MOST_NORMAL, len(normal))).astype(int)
    return np.stack([load_picture(normal[place].path, spec) for place in spread])
