"""One moeclip bundle in service: pictures and class names queue separately, each for its own thread."""

from dataclasses import dataclass

from export.contract.bundle import Bundle
from service.batcher import Batcher
from service.metrics import Metrics
from service.settings import Settings
from service.zero_shot.engine import Finding, Question, ZeroShotEngine
from service.zero_shot.text_tower import ClassText


@dataclass(frozen=True)
class ZeroShotModel:
    """A bundle with its queues of pictures and of class names that are new."""

    bundle: Bundle
    batcher: Batcher[Question, Finding]
    names: Batcher[str, ClassText]


def serve_zero_shot(
    bundle: Bundle, engine: ZeroShotEngine, settings: Settings, metrics: Metrics
) -> ZeroShotModel:
    """The model of a loaded engine."""

    def compute(questions: list[Question]) -> list[Finding | Exception]:
        metrics.batch_size.observe(len(questions))
        return engine.run(questions)

    def encode(names: list[str]) -> list[ClassText | Exception]:
        return engine.tower.run(names)

    pictures = Batcher(compute, settings.max_batch)
    return ZeroShotModel(bundle, pictures, Batcher(encode, settings.max_class_names))
