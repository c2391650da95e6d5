"""One moeclip bundle in service: pictures and class names queue separately, each for threads of its own."""

from time import perf_counter

from service.inference.isolation import IsolatedBatches
from service.inference.text_tower import ClassText, TextTower
from service.metrics import Metrics
from service.models.pipeline import watchdog_limit
from service.scheduling.batcher import Batcher
from service.settings import Settings

SHORTEST_WATCHDOG_S = 60.0


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
    batcher = Batcher(IsolatedBatches(encode, tower.names_at_once), limit_s=limit_s, name="text")
    batcher.probe = tower.warm_up
    return batcher
