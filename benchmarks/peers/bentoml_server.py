"""BentoML, as its documentation has it: a service; with batching two, one is asked and one batches.

A worker for every core, four threads in each, no batching. Tried in turn on two cores with other work too:
45 to 65 pictures a second, with one worker 38 to 46, with batches of up to 8 11 to 24.

python -m bentoml serve benchmarks.peers.bentoml_server:Detector
"""
# pyright: reportMissingImports=false

from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType

from benchmarks.peers.settings import BUNDLE, CORES, Settings
from benchmarks.steps import Steps

SETTINGS = Settings.chosen(workers=CORES, max_batch=1, threads=1)
COMMON: dict[str, Any] = {"traffic": {"timeout": 300}, "logging": {"access": {"enabled": False}}}

Body = Annotated[bytes, ContentType("image/png")]  # the picture as it is
Answer = dict[str, Any]


@bentoml.service(workers=SETTINGS.workers, threads=4, **COMMON)
class Single:
    """Every request alone, in a thread of a worker."""

    def __init__(self) -> None:
        self.steps = Steps(BUNDLE, SETTINGS.threads)

    @bentoml.api
    def detect(self, picture: Body, /) -> Answer:
        """One encoded picture to its answer."""
        return self.steps.answer(picture)


@bentoml.service(workers=SETTINGS.workers, **COMMON)
class Model:
    """Batches of encoded pictures."""

    def __init__(self) -> None:
        self.steps = Steps(BUNDLE, SETTINGS.threads)

    @bentoml.api(batchable=True, max_batch_size=max(2, SETTINGS.max_batch), max_latency_ms=10_000)
    def run(self, pictures: list[bytes]) -> list[Answer]:
        """Decode, run and tell a batch."""
        opened = [self.steps.decode(picture) for picture in pictures]
        return [self.steps.encode(*pair) for pair in zip(opened, self.steps.run(opened), strict=True)]


@bentoml.service(**COMMON)
class Batched:
    """Takes requests and hands them to `Model`."""

    model = bentoml.depends(Model)

    @bentoml.api
    async def detect(self, picture: Body, /) -> Answer:
        """One encoded picture to its answer."""
        (answer,) = await self.model.to_async.run([picture])
        return answer


Detector = Single if SETTINGS.max_batch == 1 else Batched
