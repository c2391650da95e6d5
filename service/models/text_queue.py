"""One moeclip bundle in service: pictures and class names queue separately, each for threads of its own."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from export.contract.bundle import Bundle
from service.inference.moeclip import Finding, Question, ZeroShotEngine
from service.inference.text_tower import ClassText, TextTower
from service.metrics import Metrics
from service.models.pipeline import ModelPipeline, watchdog_limit
from service.scheduling.batcher import Batcher
from service.scheduling.fair_queue import FairQueue
from service.scheduling.stage import Stage
from service.settings import Settings

SHORTEST_WATCHDOG_S = 60.0


@dataclass(frozen=True)
class ZeroShotModel:
    """A bundle with the lane of its pictures and the queue of class names that are new, both with turns."""

    bundle: Bundle
    engine: ZeroShotEngine
    lane: ModelPipeline[Question, Finding]
    names: Batcher[str, ClassText]
    name_turns: FairQueue

    @property
    def depth(self) -> int:
        """How many pictures and class names wait, for their turn or for the device."""
        return self.lane.depth + self.name_turns.depth + self.names.depth

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        """Whatever works for it."""
        return *self.lane.stages, self.names

    async def retire(self) -> None:
        """Stop computing once every picture that came here has its answer."""
        await self.lane.retire()
        await self.names.stop()


def name_batcher(tower: TextTower, settings: Settings, metrics: Metrics) -> Batcher[str, ClassText]:
    """The queue of class names in front of a text tower, which is run once: to know when it hangs.

    Each later run counts as one of the stage `text`.
    """

    def encode(names: list[str]) -> list[ClassText | Exception]:
        with metrics.stage_seconds.labels("text").time():
            return tower.run(names)

    began = perf_counter()
    tower.warm_up()
    batch_s = tower.names_at_once * (perf_counter() - began)
    limit_s = watchdog_limit(settings, "text", batch_s, SHORTEST_WATCHDOG_S)
    batcher = Batcher(encode, tower.names_at_once, limit_s=limit_s, name="text")
    batcher.probe = tower.warm_up
    return batcher
