"""The simulation of many runs at once finds what the service's own detector finds."""

import numpy as np
import pytest

from benchmarks.drift import Numbers, first_alarm, shifted
from service.drift.product import ProductDrift


class Halves:
    """Chance that always gives a half."""

    def random(self, size: int) -> np.ndarray:
        return np.full(size, 0.5)


def test_runs_alarm_as_the_service_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.drift.detector.random.random", lambda: 0.5)
    rng = np.random.default_rng(0)
    reference, scores, distances = (rng.lognormal(0, 0.3, shape) for shape in ((3, 20), (3, 200), (3, 200)))
    scores[0, 150:] *= 2
    distances[1, 100:] *= 1.5
    found = first_alarm(reference, Numbers(scores, distances), 10_000, Halves())  # type: ignore[arg-type]
    for run, picture in enumerate(found):
        product = ProductDrift(reference[run], 10_000)
        for number in zip(scores[run], distances[run], strict=True):
            product.add(*number, 1)
        assert picture == (product.alarm.pictures if product.alarm else 201)
    assert 150 < found[0] < 170
    assert 100 < found[1] < 125
    assert found[2] == 201


def test_a_shift_is_counted_in_standard_deviations() -> None:
    numbers = Numbers(np.array([1.0, 3.0]), np.array([0.5, 0.5]))
    assert shifted({"normal": numbers}, 2.0).scores.tolist() == [3.0, 5.0]
