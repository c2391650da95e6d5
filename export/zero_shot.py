"""MoECLIP runs as bundles, and the proof that a bundle computes what its run does."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor

from export.contract.bundle import Bundle, write_bundle
from export.contract.manifest import TOKENIZER, Manifest
from export.contract.provenance import TOLERANCES
from export.forms import Form, make_exporter
from export.graph_file import GraphFile
from export.graphs import Part
from export.moeclip import zero_shot_examples, zero_shot_parts, zero_shot_spec
from export.verify import Comparison, Difference, relative
from service.backends.opening import open_graph
from training.moeclip.checkpoint import Checkpoint, RunConfig

EXAMPLES = 2  # pictures or prompts that a graph is traced on
BATCHES = (1, 3, 8)

Run = Checkpoint[RunConfig]
Tensors = dict[str, Tensor]


def build_zero_shot_bundle(
    run: Run,
    output: Path,
    name: str,
    version: str,
    form: Form | None = None,
    on_graph: Callable[[str], None] = lambda _key: None,
) -> Bundle:
    """Export vision, text and head of a run and write the bundle; an older one at `output` is replaced.

    on_graph: told the key of each graph when it is done. Raises ValueError for a precision that cannot be had
    or a tokenizer of another length than the model's, BundleError when the bundle cannot be read back.
    """
    form = form or Form()
    if form.precision.startswith("int8"):
        raise ValueError(f"precision: {form.precision!r} is there for AnomalyMoE only")
    length = len(run.tokenizer.encode("").ids)
    if length != run.config.model.clip.text.context_length:
        raise ValueError(
            f"{TOKENIZER}: gives {length} ids, the model takes {run.config.model.clip.text.context_length}"
        )
    export = make_exporter(form)
    graphs: dict[str, GraphFile] = {}
    for part in zero_shot_parts(run.model, run.config.map_size):
        graphs[part.key] = export(part, zero_shot_examples(run.config.model, part.key, EXAMPLES))
        on_graph(part.key)
    manifest = _manifest(run, form, graphs).model_copy(update={"name": name, "version": version})
    files = {path: data for graph in graphs.values() for path, data in graph.files.items()}
    files[TOKENIZER] = run.tokenizer.to_str().encode()
    return write_bundle(output, manifest, files, run.class_scores.values())


def compare_zero_shot(bundle: Bundle, run: Run, progress: Progress) -> Comparison:
    """Every graph on random inputs in several batches, then map and score with each graph fed by the others.

    Raises BundleError for a changed file, GraphError for a graph that cannot run.
    """
    parts = {part.key: part for part in zero_shot_parts(run.model, bundle.manifest.map_size)}
    by_torch: dict[str, list[Tensors]] = {}
    by_graph: dict[str, list[Tensors]] = {}
    for key in progress.track(("vision", "text"), description="compare graphs"):
        inputs = [zero_shot_examples(run.config.model, key, batch) for batch in BATCHES]
        by_graph[key] = _run_graph(bundle, parts[key], inputs)
        by_torch[key] = [_run_part(parts[key], one) for one in inputs]
    head = parts["head"]
    inputs = [zero_shot_examples(run.config.model, "head", batch) for batch in BATCHES]
    by_graph["head"] = _run_graph(bundle, head, inputs)
    by_torch["head"] = [_run_part(head, one) for one in inputs]
    whole_by_graph = _run_graph(bundle, head, _head_inputs(by_graph))
    whole_by_torch = [_run_part(head, one) for one in _head_inputs(by_torch)]
    differences = [
        *_graph_differences(by_graph, by_torch),
        *_whole_differences(whole_by_graph, whole_by_torch),
    ]
    return Comparison(TOLERANCES[bundle.manifest.precision], differences, [])


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


def _graph_differences(
    by_graph: dict[str, list[Tensors]], by_torch: dict[str, list[Tensors]]
) -> Iterator[Difference]:
    """Of each graph in each batch, relative to the largest value of an output."""
    for key, expected in by_torch.items():
        for batch, found, wanted in zip(BATCHES, by_graph[key], expected, strict=True):
            largest = max(relative(found[name].numpy(), wanted[name].numpy()) for name in wanted)
            yield Difference(key, "random", batch, largest)


def _whole_differences(by_graph: list[Tensors], by_torch: list[Tensors]) -> Iterator[Difference]:
    """Map and score of each picture for a class of its own, relative to their range 0..1.

    The map of a picture may be zero nearly everywhere, so that its own largest value says nothing.
    """
    for batch, found, wanted in zip(BATCHES, by_graph, by_torch, strict=True):
        for name in wanted:
            yield Difference(name, "random", batch, (found[name] - wanted[name]).abs().max().item())


def _head_inputs(outputs: dict[str, list[Tensors]]) -> Iterator[Tensors]:
    """What vision and text gave, for the head; the anomalous text is the normal one back to front."""
    for seen, read in zip(outputs["vision"], outputs["text"], strict=True):
        rows = torch.arange(len(seen["tokens"]))
        text = torch.stack([read["features"], read["features"].flip(-1)], 1)
        pairs = {"rows": rows, "text": text, "medical": rows % 2 == 0}
        yield {"tokens": seen["tokens"], "summary": seen["summary"], **pairs}


@torch.no_grad()
def _run_part(part: Part, tensors: Tensors) -> Tensors:
    return dict(zip(part.outputs, part.module(*(tensors[name] for name in part.inputs)), strict=True))


def _run_graph(bundle: Bundle, part: Part, batches: Iterable[Tensors]) -> list[Tensors]:
    """The outputs of every batch; the graph is closed then, since a large one takes gigabytes."""
    graph = open_graph(bundle, part.key, "cpu")
    outputs: list[Tensors] = []
    for tensors in batches:
        found = graph.run({name: tensors[name].numpy() for name in part.inputs})
        outputs.append({name: torch.from_numpy(found[name]) for name in part.outputs})
    return outputs
