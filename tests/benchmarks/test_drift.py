"""The simulation of many runs at once finds what the service's own detector finds."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import drift
from benchmarks.drift import SIGMAS, Line, bins, first_alarm
from benchmarks.drift_scores import NORMAL, Numbers, kept
from service.drift.product import ProductDrift


class Halves:
    """Chance that always gives a half."""

    def random(self, shape: tuple[int, int]) -> np.ndarray:
        return np.full(shape, 0.5)


def test_runs_alarm_as_the_service_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.drift.detector.random.random", lambda: 0.5)
    rng = np.random.default_rng(0)
    reference, scores, distances = (rng.lognormal(0, 0.3, shape) for shape in ((3, 20), (3, 200), (3, 200)))
    scores[0, 150:] *= 2
    distances[1, 100:] *= 1.5
    observed = Line(bins(scores), bins(distances))
    found = first_alarm(bins(reference), observed, 10_000, Halves())  # type: ignore[arg-type]
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
    assert drift.changed({NORMAL: numbers}, 2.0).scores.tolist() == [3.0, 5.0]


def test_runs_take_their_pictures_from_one_product_each() -> None:
    pools = [{NORMAL: Numbers(np.array([low, low * 1.5]), np.full(2, low))} for low in (0.1, 10.0)]
    drawn_line = drift.line(pools, NORMAL, (4, 50), np.random.default_rng(0))
    for run, pool in enumerate(pools * 2):
        assert set(drawn_line.scores[run]) == set(bins(pool[NORMAL].scores))
        assert set(drawn_line.distances[run]) == set(bins(pool[NORMAL].distances))


def test_a_lower_limit_alarms_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pool = {NORMAL: Numbers(rng.lognormal(0, 0.3, 200), rng.lognormal(0, 0.3, 200))}
    monkeypatch.setattr("benchmarks.drift.LENGTH", 500)
    counts = []
    for limit in (100_000, 1000, 10):
        monkeypatch.setattr("benchmarks.drift.LIMIT", limit)
        counts.append(drift.false_alarms([pool], 30, 100, np.random.default_rng(1)))
    assert counts[0] <= counts[1] <= 50 < counts[2]  # the promise: half of the runs at most


def test_scores_are_kept(tmp_path: Path) -> None:
    made = {"tile": {NORMAL: Numbers(np.arange(3.0), np.ones(3)), "15 % less light": Numbers(*np.eye(2))}}
    for make in (lambda: made, lambda: {}):
        found = kept(tmp_path / "scores.npz", make)
        assert found["tile"][NORMAL].scores.tolist() == [0, 1, 2]
        assert found["tile"]["15 % less light"].distances.tolist() == [0, 1]


def test_the_figure_is_higher_where_fewer_runs_have_no_alarm_yet() -> None:
    delays = [np.arange(low, low + 50) for low in (4, 7, 20, 96, 258)]
    svg = ElementTree.fromstring(drift.drawn(delays, "board"))
    lines = [one.attrib["points"].split() for one in svg.findall("{*}polyline")]
    heights = [[float(point.partition(",")[2]) for point in line] for line in lines]
    assert [len(line) for line in lines] == [len(SIGMAS)] * 3
    assert all(most < median < least for most, median, least in zip(*heights, strict=True))
