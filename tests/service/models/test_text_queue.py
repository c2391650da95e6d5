"""How many names the text tower takes at once, and how long that may take before it counts as hung."""

import numpy as np
import pytest

from service.inference.text_tower import ClassText, TextTower
from service.metrics import Metrics
from service.models.text_queue import name_batcher
from tests.service.conftest import settings_for


@pytest.mark.parametrize(("name_s", "limit_s"), [(0.01, 60), (2.5, 20 * 4 * 2.5)])
def test_names_share_runs_that_are_short(
    monkeypatch: pytest.MonkeyPatch, name_s: float, limit_s: float
) -> None:
    now = 0.0

    class SlowTower(TextTower):
        def __init__(self) -> None:
            self._prompts = ("{}",) * 16

        def warm_up(self) -> ClassText:
            nonlocal now
            now += name_s
            return ClassText(np.zeros((2, 1), np.float32), np.zeros(1, np.float32))

    monkeypatch.setattr("service.models.text_queue.perf_counter", lambda: now)
    names = name_batcher(SlowTower(), settings_for("-", max_class_names=16), Metrics())
    assert names.max_batch() == 4
    assert names.limit_s == pytest.approx(limit_s)
