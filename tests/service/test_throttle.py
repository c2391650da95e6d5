"""What is loaded beside models at work leaves most of the time to them."""

from pathlib import Path
from threading import Event

import pytest

from export.contract.bundle import Bundle
from service import throttle as module
from service.metrics import Metrics
from service.models.loading import load_models
from service.throttle import SHARE, StoppedError, Throttle
from tests.service.conftest import settings_for
from tests.service.models.test_reload import version_of
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle


class Rests(Event):
    """The rests, which are not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.taken.append(timeout)
        return self.is_set()


def test_a_rest_follows_from_the_time_since_the_last_one_until_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([10.0, 10.5, 12.0, 12.1, 12.2, 12.3])
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    rests = Rests()
    rest = Throttle(rests)
    rest()
    rest()
    assert rests.taken == pytest.approx([0.5 * SHARE, 0.1 * SHARE])
    rests.set()
    with pytest.raises(StoppedError, match="stopping"):
        rest()


def test_a_reload_rests_after_every_graph_and_warm_up_and_the_batch_that_is_tried(
    bundle_folder: Path, tmp_path: Path
) -> None:
    settings, rests = settings_for(tmp_path, threads=1), Rests()
    version_of(bundle_folder, tmp_path / "tiny", "1")
    first = load_models(settings, Metrics())
    version_of(bundle_folder, tmp_path / "tiny", "2")
    load_models(settings, Metrics(), first.all, Throttle(rests))
    assert len(rests.taken) == len(Bundle.read(bundle_folder).manifest.graphs) + 2
    rests.taken.clear()
    words = make_tiny_zero_shot_bundle(tmp_path / "words")
    version_of(bundle_folder, tmp_path / "tiny", "1")
    load_models(settings, Metrics(), first.all, Throttle(rests))
    assert len(rests.taken) == len(Bundle.read(words).manifest.graphs) + 3
