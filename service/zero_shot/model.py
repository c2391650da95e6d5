"""One moeclip bundle in service: pictures and class names queue separately, each for threads of its own."""

from dataclasses import dataclass

from export.contract.bundle import Bundle
from service.batcher import Batcher
from service.lane import Lane, Stage
from service.metrics import Metrics
from service.settings import Settings
from service.zero_shot.engine import Finding, Question
from service.zero_shot.text_tower import ClassText, TextTower

LONGEST_S = 60.0  # a run of the text tower that takes longer hangs


@dataclass(frozen=True)
class ZeroShotModel:
    """A bundle with the lane of its pictures and the queue of class names that are new."""

    bundle: Bundle
    lane: Lane[Question, Finding]
    tower: TextTower
    names: Batcher[str, ClassText]

    @property
    def batcher(self) -> Batcher[Question, Finding]:
        """What computes its pictures."""
        return self.lane.batcher

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Whatever computes for it."""
        return Stage(self.lane.batcher, self.lane.probe), Stage(self.names, self.tower.warm_up)

    async def retire(self) -> None:
        """Stop computing once every picture that came here has its answer."""
        await self.lane.retire()
        await self.names.stop()


def name_batcher(tower: TextTower, settings: Settings, metrics: Metrics) -> Batcher[str, ClassText]:
    """The queue of class names in front of a text tower; each run of it is one of the stage `text`."""

    def encode(names: list[str]) -> list[ClassText | Exception]:
        with metrics.stage_seconds.labels("text").time():
            return tower.run(names)

    limit_s = settings.watchdog_s or LONGEST_S
    return Batcher(encode, settings.max_class_names, limit_s=limit_s, name="text")
