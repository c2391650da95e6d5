"""What `anomoe-export build` and `verify` do with a run of either method: export it, measure what is lost."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress, TaskID

from export.accuracy import Accuracy, measure_accuracy, read_test_samples
from export.build import Choice, build_bundle
from export.contract.bundle import Bundle
from export.contract.manifest import InputSpec
from export.contract.preprocess import Pixels
from export.contract.provenance import Format, Precision
from export.forms import Form
from export.moeclip_build import build_zero_shot, compare_zero_shot
from export.verify import Comparison, compare
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
    form = Form(request.format, request.precision)
    task = progress.add_task("read", total=None)
    on_graph = partial(_show, progress, task)
    if read_method(run) == "moeclip":
        return _assemble_zero_shot(run, output, request, form, on_graph), []
    checkpoint = load_checkpoint(run)
    normal = _normal(request, checkpoint.config.input)
    samples = [] if request.data is None else _test_samples(request, request.data, checkpoint)
    choice = Choice(form, request.categories, request.keep_unused, normal)
    bundle = build_bundle(
        checkpoint,
        output,
        request.name,
        request.version,
        choice,
        on_graph,
    )
    if not samples:
        return bundle, []
    return bundle, measure_accuracy(Engine(bundle, device="cpu"), checkpoint, samples, progress)


def _test_samples(request: Request, data: Path, checkpoint: Checkpoint) -> list[Sample]:
    """The test pictures of the products that are asked for; none where the data set has no test pictures."""
    if not any(one.split == "test" for one in find_samples(data)):
        return []
    return read_test_samples(data, request.categories or tuple(checkpoint.categories))


def compare_run(bundle: Bundle, run: Path, data: Path | None, progress: Progress) -> Comparison:
    """Compare a bundle with a run of either method. Raises what `load_checkpoint` and `compare` raise."""
    if read_method(run) == "moeclip":
        return compare_zero_shot(bundle, load_run(run))
    return compare(bundle, load_checkpoint(run), data, progress)


def _assemble_zero_shot(
    run: Path, output: Path, request: Request, form: Form, on_graph: Callable[[str], None]
) -> Bundle:
    checkpoint = load_run(run)
    if request.categories is not None:
        raise ValueError("categories: a MoECLIP bundle carries all class names")
    normal = _normal(request, checkpoint.config.input)
    names = (request.name, request.version)
    return build_zero_shot(checkpoint, output, names, form, normal, on_graph)


def _show(progress: Progress, task: TaskID, key: str) -> None:
    progress.update(task, description=f"exported {key}")


def _normal(request: Request, spec: InputSpec) -> Pixels | None:
    """Normal training pictures (n, H, W, 3) from all over the data set, for activation ranges."""
    data = request.data
    if data is None or request.precision != "int8-static":
        return None
    normal = [one for one in find_samples(data) if one.split == "train" and not one.is_anomalous]
    if not normal:
        raise DataError(f"{data}: no normal training pictures (train/good) found")
    spread = np.linspace(0, len(normal) - 1, min(MOST_NORMAL, len(normal))).astype(int)
    return np.stack([load_picture(normal[place].path, spec) for place in spread])
