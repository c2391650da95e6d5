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

    async def encode(self, class_name: str) -> ClassText:
        """The text of one class name, computed together with others that wait.

        Raises: NameTooLongError, GraphError, Problem (503) after the model has stopped.
        """
        return (await self.names.submit(class_name)).result


def serve_zero_shot(
    bundle: Bundle, engine: ZeroShotEngine, settings: Settings, metrics: Metrics
) -> ZeroShotModel:
    """The model of a loaded engine."""

    def compute(questions: list[Question]) -> list[Finding | Exception]:
        metrics.batch_size.observe(len(questions))
        return engine.run(questions)

    return ZeroShotModel(
        bundle,
        Batcher(compute, settings.max_batch),
        Batcher(engine.tower.run, settings.max_class_names),
    )
