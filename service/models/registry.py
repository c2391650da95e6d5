"""The models in service: each bundle with its way to the device, and which one answers a request."""

from collections.abc import Sequence

from export.contract.decision import effective_alpha
from export.contract.manifest import ModelKind
from export.contract.provenance import Format
from service.errors import Kind, Problem, shown
from service.metrics import Metrics
from service.models.model import AnyModel, Model, ZeroShotModel


class ModelRegistry:
    """Every model in service once, in the order of the settings; at least one."""

    def __init__(self, models: Sequence[AnyModel]) -> None:
        self.all = tuple({id(model): model for model in models}.values())

    def candidates(self, category: str | None) -> Sequence[Model]:
        """The first model that knows the category; all that were trained on products when none is named.

        Raises: Problem (404) when no model knows the category, or none was trained on products.
        """
        trained = [model for model in self.all if isinstance(model, Model)]
        if not trained:
            detail = "no bundle of kind anomalymoe is served, only /zero-shot answers"
            raise Problem(Kind.UNKNOWN_MODEL, detail)
        if category is None:
            return trained
        for model in trained:
            if category in model.bundle.categories:
                return [model]
        known = sorted({name for model in trained for name in model.bundle.categories})
        raise Problem(Kind.UNKNOWN_CATEGORY, f"category: {shown(category)} is none of {', '.join(known)}")

    def zero_shot(self) -> ZeroShotModel:
        """The first model that takes class names.

        Raises: Problem (404) when there is none.
        """
        for model in self.all:
            if isinstance(model, ZeroShotModel):
                return model
        raise Problem(Kind.UNKNOWN_MODEL, "no bundle of kind moeclip is served, only /detect answers")

    def queue_depth(self) -> int:
        """Pictures and class names that wait for their turn or a device."""
        return sum(model.depth for model in self.all)

    def wait_s(self, kind: ModelKind, client: str) -> float:
        """Seconds until the model of this kind that has least to do would answer a client's next picture."""
        waits = [one.pipeline.wait_s(client) for one in self.all if one.bundle.manifest.kind == kind]
        return min(waits, default=0.0)

    def swap(self, others: "ModelRegistry") -> tuple[list[AnyModel], list[AnyModel]]:
        """Take the others' models at once; gives those that are new and those that have left."""
        new = [model for model in others.all if model not in self.all]
        left = [model for model in self.all if model not in others.all]
        self.all = others.all
        return new, left

    def publish(self, metrics: Metrics, device: str) -> None:
        """Tell the metrics which models and products there are, and on which device, of the one asked for."""
        for gauge in (metrics.model_info, metrics.device_info, metrics.calibration_size, metrics.alpha):
            gauge.clear()
        metrics.gpu_missing.set(any(model.misses_gpu for model in self.all))
        for model in reversed(self.all):  # of several that know a product the first answers
            manifest = model.bundle.manifest
            info = (manifest.name, manifest.version, manifest.kind, model.bundle.digest)
            metrics.model_info.labels(*info).set(1)
            metrics.device_info.labels(device, provider(manifest.format, model.engine.device)).set(1)
            experts = ((expert.level, expert.index) for expert in manifest.experts)
            metrics.expect(model.bundle.categories, experts)
            for name, category in model.bundle.categories.items():
                size = len(category.scores)
                metrics.calibration_size.labels(name).set(size)
                metrics.alpha.labels(name).set(effective_alpha(size, manifest.calibration.alpha))


def provider(graph_format: Format, device: str) -> str:
    """What computes: ONNX Runtime's own name for it, or torch and its device."""
    if graph_format == "torchscript":
        return f"torch-{device}"
    return f"{device.upper()}ExecutionProvider"
