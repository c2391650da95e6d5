"""From a MoECLIP run to a bundle, and whether the bundle computes what the run does."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from export.contract.bundle import Bundle, write_bundle
from export.contract.manifest import TOKENIZER, Manifest
from export.contract.preprocess import Pixels
from export.contract.provenance import TOLERANCES
from export.forms import Form, make_exporter
from export.graph_file import GraphFile
from export.graphs import Part, random_pictures
from export.moeclip import zero_shot_examples, zero_shot_parts, zero_shot_spec
from export.verify import BATCHES, END_TO_END, Comparison, Difference, largest_difference, relative
from service.backends.base import Graph
from service.backends.opening import open_graph
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.tokenizer import token_ids

BATCH = 8


def build_zero_shot(
    run: Checkpoint[RunConfig],
    output: Path,
    names: tuple[str, str],
    form: Form,
    normal: Pixels | None = None,
    on_graph: Callable[[str], None] = lambda _key: None,
) -> Bundle:
    """Export the graphs of a run and write the bundle; an older one at `output` is replaced.

    names: of the model and of its version. normal: pictures (n, H, W, 3) that int8-static is calibrated on.
    on_graph: told the key of each graph when it is done.
    """
    config = run.config
    calibration = () if normal is None else _calibration(run, normal)
    export = make_exporter(form, calibration)
    graphs: dict[str, GraphFile] = {}
    for part in zero_shot_parts(run.model, config.map_size):
        graphs[part.key] = export(part, zero_shot_examples(config.model, part.key, batch=3))
        on_graph(part.key)
    vision = config.model.clip.vision
    manifest = Manifest(
        kind="moeclip",
        name=names[0],
        version=names[1],
        created=datetime.now(timezone.utc).replace(microsecond=0),
        source={"clip_width": vision.width, "clip_depth": vision.depth, "prompts": config.model.prompts},
        format=form.format,
        precision=form.precision,
        input=config.input,
        graphs={key: graph.spec for key, graph in graphs.items()},
        top_k=0 if config.model.moe is None else config.model.moe.top_k,
        grid=vision.grid,
        map_size=config.map_size,
        categories=tuple(run.class_scores),
        zero_shot=zero_shot_spec(run),
    )
    files = {path: data for graph in graphs.values() for path, data in graph.files.items()}
    files[TOKENIZER] = (run.tokenizer.to_str(pretty=True) + "\n").encode()
    return write_bundle(output, manifest, files, run.class_scores.values())


@torch.no_grad()
def compare_zero_shot(bundle: Bundle, run: Checkpoint[RunConfig]) -> Comparison:
    """Every graph, and map and score through all three, on random pictures and prompts.

    Raises BundleError for a changed file, GraphError for a graph that cannot run.
    """
    config = run.config.model
    graphs = {key: open_graph(bundle, key, "cpu") for key in bundle.manifest.graphs}
    parts = {part.key: part for part in zero_shot_parts(run.model, run.config.map_size)}
    differences: list[Difference] = []
    for batch in BATCHES:
        for key, part in parts.items():
            largest = largest_difference(part, graphs[key], zero_shot_examples(config, key, batch))
            differences.append(Difference(key, "random", batch, largest))
        image = random_pictures(config.clip.vision.image_size, batch)
        prompts = zero_shot_examples(config, "text", 4 * batch)["tokens"]
        expected = _whole(partial(_run_part, parts), image, prompts)
        found = _whole(partial(_run_graph, graphs), image, prompts)
        for name in END_TO_END:
            largest = relative(found[name].numpy(), expected[name].numpy())
            differences.append(Difference(name, "random", batch, largest))
    return Comparison(TOLERANCES[bundle.manifest.precision], differences, [])


def _run_part(parts: Mapping[str, Part], key: str, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
    part = parts[key]
    return dict(zip(part.outputs, part.module(*(feeds[name] for name in part.inputs)), strict=True))


def _run_graph(graphs: Mapping[str, Graph], key: str, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
    outputs = graphs[key].run({name: value.numpy() for name, value in feeds.items()})
    return {name: torch.from_numpy(value) for name, value in outputs.items()}


def _whole(
    run: Callable[[str, dict[str, Tensor]], dict[str, Tensor]], image: Tensor, prompts: Tensor
) -> dict[str, Tensor]:
    """Map and score of two class names a picture, of two prompts each."""
    seen, read = run("vision", {"image": image}), run("text", {"tokens": prompts})
    rows = torch.arange(len(image)).repeat(2)
    return run(
        "head",
        {
            "tokens": seen["tokens"],
            "summary": seen["summary"],
            "rows": rows,
            "text": read["features"].unflatten(0, (-1, 2)),
            "medical": rows % 2 == 0,
        },
    )


def _calibration(run: Checkpoint[RunConfig], normal: Pixels) -> Iterator[dict[str, Tensor]]:
    """Normal pictures, each batch with the prompts of an object."""
    spec = zero_shot_spec(run)
    prompts = token_ids(run.tokenizer, [one.format("object") for one in (*spec.normal, *spec.abnormal)])
    for start in range(0, len(normal), BATCH):
        yield {"image": torch.from_numpy(normal[start : start + BATCH]), "tokens": prompts}
