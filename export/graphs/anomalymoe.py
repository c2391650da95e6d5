"""The parts of a detector that become the graphs of a bundle, cut where the service dispatches.

Legend: B batch, b pictures that chose an expert, T tokens, F features, D width, M components, K top-k.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from export.contract.manifest import LEVELS, ExpertSpec
from export.graphs.part import Part, random_pictures
from training.anomalymoe.model.detector import AnomalyMoE, Scene
from training.anomalymoe.model.gaussian import GaussianExpert
from training.anomalymoe.model.head import Head
from training.anomalymoe.model.subspace import SubspaceExpert

NOT_LOOKED_AT = torch.empty(0)  # in place of what experts of the level at hand do not read


class Backbone(nn.Module):
    """image -> features, cls."""

    def __init__(self, detector: AnomalyMoE) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features, cls = self.detector.encode(self.detector.normalise(image))
        return features, cls


class Routing(nn.Module):
    """cls -> experts, gates."""

    def __init__(self, detector: AnomalyMoE) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, cls: Tensor) -> tuple[Tensor, Tensor]:
        choice = self.detector.router(cls)
        return choice.experts, choice.gates


class ExpertError(nn.Module):
    """The error of one expert, by router column, on the pictures that chose it."""

    inputs: tuple[str, ...]

    def __init__(self, detector: AnomalyMoE, column: int) -> None:
        super().__init__()
        self.detector, self.column = detector, column

    def error(self, image: Tensor, features: Tensor, masks: Tensor) -> Tensor:
        return self.detector.run_expert(self.column, Scene(image, features, masks)).error


class PatchError(ExpertError):
    """features, rows -> error."""

    inputs = ("features", "rows")

    def forward(self, features: Tensor, rows: Tensor) -> Tensor:
        return self.error(NOT_LOOKED_AT, features[rows], NOT_LOOKED_AT)


class ComponentError(ExpertError):
    """features, rows, centres, valid -> error."""

    inputs = ("features", "rows", "centres", "valid")

    def forward(self, features: Tensor, rows: Tensor, centres: Tensor, valid: Tensor) -> Tensor:
        chosen = features[rows]
        return self.error(NOT_LOOKED_AT, chosen, self.detector.component_masks(chosen, centres, valid))


class GlobalError(ExpertError):
    """image, features, rows -> error."""

    inputs = ("image", "features", "rows")

    def forward(self, image: Tensor, features: Tensor, rows: Tensor) -> Tensor:
        return self.error(self.detector.normalise(image[rows]), features[rows], NOT_LOOKED_AT)


_ERRORS = {"patch": PatchError, "component": ComponentError, "global": GlobalError}


def detector_parts(detector: AnomalyMoE, head: Head, experts: tuple[ExpertSpec, ...]) -> Iterator[Part]:
    """Backbone, router, the given experts and the head, all in evaluation mode.

    Exact are those that cost little and lose much: the router, where near ties between logits decide who
    runs, the head, component experts, whose nearest centres are differences of large numbers, and
    closed-form experts, whose error is what is left when nearly all is taken away.
    """
    detector.eval()
    yield Part("backbone", Backbone(detector), ("image",), ("features", "cls"))
    yield Part("router", Routing(detector), ("cls",), ("experts", "gates"), exact=True)
    for expert in experts:
        module = _ERRORS[expert.level](detector, expert.column)
        yield Part(expert.graph, module, module.inputs, ("error",), _is_exact(detector, expert))
    yield Part("head", head.eval(), ("levels",), ("map", "score", "level_scores"), exact=True)


def _is_exact(detector: AnomalyMoE, expert: ExpertSpec) -> bool:
    is_closed_form = isinstance(detector.experts[expert.column], GaussianExpert | SubspaceExpert)
    return expert.level == "component" or is_closed_form


def example_tensors(
    detector: AnomalyMoE, batch: int, rows: tuple[int, ...], components: int = 4
) -> dict[str, Tensor]:
    """A random value for each graph input: `batch` pictures, of which `rows` chose the expert."""
    return part_inputs(detector, random_pictures(detector.encoder.image_size, batch), rows, components)


@torch.no_grad()
def part_inputs(
    detector: AnomalyMoE, image: Tensor, rows: tuple[int, ...], components: int = 4
) -> dict[str, Tensor]:
    """A value for each graph input from pictures uint8 (B, H, W, 3); centres and level maps are random."""
    encoder, batch = detector.encoder, len(image)
    random = torch.Generator().manual_seed(batch)
    features, cls = detector.encode(detector.normalise(image))
    return {
        "image": image,
        "features": features,
        "cls": cls,
        "rows": torch.tensor(rows),
        "centres": torch.randn(len(rows), components, encoder.width, generator=random),
        "valid": torch.arange(components).expand(len(rows), -1) < components - 1,
        "levels": torch.rand(batch, len(LEVELS), *encoder.grid, generator=random),
    }
