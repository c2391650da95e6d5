"""MoECLIP runs as bundles."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor

from export.contract.bundle import Bundle, write_bundle
from export.contract.manifest import TOKENIZER, Manifest
from export.formats.forms import Form, make_exporter
from export.formats.graph_file import GraphFile
from export.graphs.moeclip import class_tokens, zero_shot_examples, zero_shot_parts, zero_shot_spec
from training.data.pictures import Sample, load_pixels
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import Checkpoint, RunConfig

BATCH = 8
EXAMPLES = 2  # pictures or prompts that a graph is traced on

PLAIN = Form()

Run = Checkpoint[RunConfig]


def build_zero_shot_bundle(
    run: Run,
    output: Path,
    name: str,
    version: str,
    form: Form = PLAIN,
    normal: Sequence[Sample] = (),
    *,
    on_graph: Callable[[str], None] = lambda _key: None,
) -> Bundle:
    """Export vision, text and head of a run and write the bundle; an older one at `output` is replaced.

    normal: pictures that int8-static is calibrated on. on_graph: told the key of each graph when it is done.
    Raises ValueError for a form that cannot be had or a tokenizer of another length than the model's,
    BundleError when the bundle cannot be read back.
    """
    length = len(run.tokenizer.encode("").ids)
    if length != run.config.model.clip.text.context_length:
        raise ValueError(
            f"{TOKENIZER}: gives {length} ids, the model takes {run.config.model.clip.text.context_length}"
        )
    export = make_exporter(form, _calibration(run, normal))
    graphs: dict[str, GraphFile] = {}
    for part in zero_shot_parts(run.model, run.config.map_size):
        graphs[part.key] = export(part, zero_shot_examples(run.config.model, part.key, EXAMPLES))
        on_graph(part.key)
    manifest = _manifest(run, form, graphs).model_copy(update={"name": name, "version": version})
    files = {path: data for graph in graphs.values() for path, data in graph.files.items()}
    files[TOKENIZER] = run.tokenizer.to_str().encode()
    return write_bundle(output, manifest, files, run.class_scores.values())


def _calibration(run: Run, normal: Sequence[Sample]) -> Iterator[dict[str, Tensor]]:
    """Graph inputs from normal pictures and the prompts of what they show."""
    for start in range(0, len(normal), BATCH):
        samples = normal[start : start + BATCH]
        names = dict.fromkeys(class_name(one) for one in samples)
        image = torch.from_numpy(load_pixels(samples, run.config.input))
        yield {"image": image, "tokens": class_tokens(run, names)}


def _manifest(run: Run, form: Form, graphs: dict[str, GraphFile]) -> Manifest:
    model = run.config.model
    return Manifest(
        kind="moeclip",
        name="-",
        version="-",
        created=datetime.now(timezone.utc).replace(microsecond=0),
        source={"prompts": model.prompts, "activation": model.clip.activation},
        format=form.format,
        precision=form.precision,
        input=run.config.input,
        graphs={key: graph.spec for key, graph in graphs.items()},
        top_k=model.moe.top_k if model.moe else 0,
        grid=model.clip.vision.grid,
        map_size=run.config.map_size,
        categories=tuple(run.class_scores),
        zero_shot=zero_shot_spec(run),
    )
