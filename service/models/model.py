"""A bundle in service."""

from dataclasses import dataclass
from typing import Any

from export.contract.bundle import Bundle
from service.inference.anomalymoe import Engine, Outcome, Picture
from service.inference.moeclip import ZeroShotEngine, ZeroShotInput, ZeroShotOutcome
from service.inference.text_tower import ClassText
from service.models.pipeline import ModelPipeline
from service.scheduling.batcher import Batcher
from service.scheduling.fair_queue import FairQueue
from service.scheduling.stage import Stage


@dataclass(frozen=True)
class ZeroShotModel:
    """A bundle with the pipeline of its pictures and the queue of new class names, both with turns."""

    bundle: Bundle
    engine: ZeroShotEngine
    pipeline: ModelPipeline[ZeroShotInput, ZeroShotOutcome]
    names: Batcher[str, ClassText]
    name_turns: FairQueue
    misses_gpu: bool = False

    @property
    def depth(self) -> int:
        """How many pictures and class names wait, for their turn or for the device."""
        return self.pipeline.depth + self.name_turns.depth + self.names.depth

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        """Whatever works for it."""
        return *self.pipeline.stages, self.names

    async def retire(self) -> None:
        """Stop computing once every picture that came here has its answer."""
        await self.pipeline.retire()
        await self.names.stop()


@dataclass(frozen=True)
class Model:
    """One anomalymoe bundle in service."""

    bundle: Bundle
    engine: Engine
    pipeline: ModelPipeline[Picture, Outcome]
    misses_gpu: bool = False

    @property
    def depth(self) -> int:
        """How many pictures wait, for their turn or for the device."""
        return self.pipeline.depth

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        """Whatever works for it."""
        return self.pipeline.stages

    async def retire(self) -> None:
        """Stop computing once every picture that came here has its answer."""
        await self.pipeline.retire()


AnyModel = Model | ZeroShotModel
