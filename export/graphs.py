"""The graphs of a bundle: a detector cut where the service dispatches, each part one ONNX file.

Legend: B batch, b pictures that chose the expert, T tokens, F features, D width, M components, K top-k.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from export.contract.manifest import ExpertSpec, GraphSpec, TensorSpec
from training.anomalymoe.component import assign
from training.anomalymoe.detector import AnomalyMoE
from training.anomalymoe.encoder import Encoder
from training.anomalymoe.expert import target_patches
from training.anomalymoe.head import Head

OPSET = 18
_EXAMPLE_BATCH = 3
_EXAMPLE_ROWS = (2, 0)
_EXAMPLE_CENTRES = 4
_DTYPES = {torch.uint8: "uint8", torch.int64: "int64", torch.float32: "float32", torch.bool: "bool"}
_BATCH_AXES = {
    "image": "B",
    "features": "B",
    "cls": "B",
    "levels": "B",
    "rows": "b",
    "centres": "b",
    "valid": "b",
}


class ExportedGraph(NamedTuple):
    """One ONNX file and its signature."""

    spec: GraphSpec
    model: bytes


class Normalise(nn.Module):
    """uint8 (B, H, W, 3) to what the encoder was trained on, float (B, 3, H, W)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(encoder.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(encoder.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image_BHWC: Tensor) -> Tensor:
        return (image_BHWC.permute(0, 3, 1, 2).float() - self.mean) / self.std


class Backbone(nn.Module):
    """image -> features, cls."""

    def __init__(self, detector: AnomalyMoE) -> None:
        super().__init__()
        self.normalise, self.encoder = Normalise(detector.encoder), detector.encoder

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features, cls = self.encoder(self.normalise(image))
        return features, cls


class Routing(nn.Module):
    """cls -> experts, gates."""

    def __init__(self, detector: AnomalyMoE) -> None:
        super().__init__()
        self.router = detector.router

    def forward(self, cls: Tensor) -> tuple[Tensor, Tensor]:
        choice = self.router(cls)
        return choice.experts, choice.gates


class PatchError(nn.Module):
    """features, rows -> error of one patch expert on the pictures that chose it."""

    def __init__(self, detector: AnomalyMoE, expert: nn.Module) -> None:
        super().__init__()
        self.expert = expert

    def forward(self, features: Tensor, rows: Tensor) -> Tensor:
        return self.expert(features[rows]).error


class ComponentError(nn.Module):
    """features, rows, centres, valid -> error of one component expert on the pictures that chose it."""

    def __init__(self, detector: AnomalyMoE, expert: nn.Module) -> None:
        super().__init__()
        self.expert = expert
        encoder = detector.encoder
        self.width, self.grid, self.prefix_tokens = encoder.width, encoder.grid, encoder.prefix_tokens

    def forward(self, features: Tensor, rows: Tensor, centres: Tensor, valid: Tensor) -> Tensor:
        chosen = features[rows]
        patches = target_patches(chosen, self.width, self.prefix_tokens)
        return self.expert(chosen, assign(patches, centres, valid, self.grid)).error


class GlobalError(nn.Module):
    """image, features, rows -> error of one global expert on the pictures that chose it."""

    def __init__(self, detector: AnomalyMoE, expert: nn.Module) -> None:
        super().__init__()
        self.normalise, self.expert = Normalise(detector.encoder), expert

    def forward(self, image: Tensor, features: Tensor, rows: Tensor) -> Tensor:
        return self.expert(self.normalise(image[rows]), features[rows]).error


_EXPERT_GRAPHS = {
    "patch": (PatchError, ("features", "rows")),
    "component": (ComponentError, ("features", "rows", "centres", "valid")),
    "global": (GlobalError, ("image", "features", "rows")),
}


def export_graphs(
    detector: AnomalyMoE, head: Head, experts: tuple[ExpertSpec, ...]
) -> Iterator[tuple[str, ExportedGraph]]:
    """Yield (key, graph) for backbone, router, the given experts and the head, each with a dynamic batch."""
    detector = detector.eval()
    examples = _examples(detector)
    yield "backbone", _export("backbone", Backbone(detector), examples, ("image",), ("features", "cls"))
    yield "router", _export("router", Routing(detector), examples, ("cls",), ("experts", "gates"))
    for expert in experts:
        graph, inputs = _EXPERT_GRAPHS[expert.level]
        module = graph(detector, detector.experts[expert.column])
        yield expert.graph, _export(expert.graph, module, examples, inputs, ("error",))
    yield "head", _export("head", head.eval(), examples, ("levels",), ("map", "score", "level_scores"))


def _examples(detector: AnomalyMoE) -> dict[str, Tensor]:
    encoder = detector.encoder
    height, width = encoder.image_size
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (_EXAMPLE_BATCH, height, width, 3), generator=generator).to(torch.uint8)
    with torch.inference_mode():
        features, cls = Backbone(detector)(image)
    rows = len(_EXAMPLE_ROWS)
    return {
        "image": image,
        "features": features.clone(),
        "cls": cls.clone(),
        "rows": torch.tensor(_EXAMPLE_ROWS),
        "centres": torch.randn(rows, _EXAMPLE_CENTRES, encoder.width, generator=generator),
        "valid": torch.ones(rows, _EXAMPLE_CENTRES, dtype=torch.bool),
        "levels": torch.rand(_EXAMPLE_BATCH, 3, *encoder.grid, generator=generator),
    }


def _export(
    key: str,
    module: nn.Module,
    examples: dict[str, Tensor],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> ExportedGraph:
    feeds = tuple(examples[name] for name in inputs)
    with _quiet_exporter(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            feeds,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple(_dynamic_axes(name) for name in inputs),
            external_data=False,
            verbose=False,
        )
        results = module(*feeds)
    if program is None:
        raise RuntimeError(f"{key}: the exporter returned no program")
    model = io.BytesIO()
    program.save(model)
    results = results if isinstance(results, tuple) else (results,)
    rows = "B" if "rows" not in inputs else "b"
    spec = GraphSpec(
        path=f"graphs/{key}.onnx",
        inputs={name: _spec(examples[name], _BATCH_AXES[name], name) for name in inputs},
        outputs={name: _spec(result, rows, name) for name, result in zip(outputs, results, strict=True)},
    )
    return ExportedGraph(spec, model.getvalue())


def _dynamic_axes(name: str) -> dict[int, str]:
    axes = {0: _BATCH_AXES[name]}
    return axes | {1: "M"} if name in ("centres", "valid") else axes


def _spec(example: Tensor, batch: str, name: str) -> TensorSpec:
    shape: list[int | str] = [batch, *example.shape[1:]]
    if name in ("centres", "valid"):
        shape[1] = "M"
    return TensorSpec(dtype=_DTYPES[example.dtype], shape=tuple(shape))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's deprecation notes about its own internals out of the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
