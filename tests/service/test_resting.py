"""What is loaded beside models at work leaves most of the time to them; at the start nothing rests."""

from pathlib import Path

import pytest

from export.contract.bundle import Bundle
from service import resting as module
from service.metrics import Metrics
from service.models import load_models
from service.resting import SHARE, Resting
from tests.service.conftest import settings_for
from tests.service.test_reload import version_of
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The rests, which are not taken."""
    taken: list[float] = []
    monkeypatch.setattr(module, "sleep", taken.append)
    return taken


def test_a_rest_follows_from_the_time_since_the_last_one(
    rests: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 10.5, 12.0, 12.1, 12.2])
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    rest = Resting()
    rest()
    rest()
    assert rests == pytest.approx([0.5 * SHARE, 0.1 * SHARE])


def test_a_reload_rests_after_every_graph_and_warm_up(
    bundle_folder: Path, rests: list[float], tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, threads=1)
    version_of(bundle_folder, tmp_path / "tiny", "1")
    first = load_models(settings, Metrics())
    assert rests == []
    version_of(bundle_folder, tmp_path / "tiny", "2")
    load_models(settings, Metrics(), first.all)
    assert len(rests) == len(Bundle.read(bundle_folder).manifest.graphs) + 1
    rests.clear()
    words = make_tiny_zero_shot_bundle(tmp_path / "words")
    version_of(bundle_folder, tmp_path / "tiny", "1")
    load_models(settings, Metrics(), first.all)
    assert len(rests) == len(Bundle.read(words).manifest.graphs)
