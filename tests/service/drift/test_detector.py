"""Ranks are uniform, evidence is what a plain calculation gives, and false alarms are as rare as promised."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from service.drift.detector import BINS, SHIFTS, Ranks, Stream, bin_of
from service.drift.product import CURVE_POINTS, ProductDrift


def test_bins_ascend_and_hold_every_number() -> None:
    values = [-1.0, 0.0, 1e-30, 1e-3, 0.999, 1.0, 1.02, 700.0, 1e30, math.inf]
    places = [bin_of(value) for value in values]
    assert places == sorted(places)
    assert places[0] == bin_of(math.nan) == 0
    assert places[-1] == BINS - 1
    assert bin_of(1.0) < bin_of(1.01) < bin_of(1.02)


@pytest.mark.parametrize("n", [0, 5, 100])
def test_ranks_are_uniform_and_independent_however_few_the_references(n: int) -> None:
    random.seed(n)
    rng = np.random.default_rng(n)
    firsts, seconds = [], []
    for _ in range(2000):
        ranks = Ranks(rng.choice([0.0, 0.5, 1.0, 2.0, 3.0], n))  # with many ties
        firsts.append(ranks.p_value(rng.choice([0.0, 0.5, 1.0, 2.0, 3.0])))
        seconds.append(ranks.p_value(rng.choice([0.0, 0.5, 1.0, 2.0, 3.0])))
    assert stats.kstest(firsts, "uniform").pvalue > 0.001
    assert stats.kstest(seconds, "uniform").pvalue > 0.001
    assert abs(float(np.corrcoef(stats.rankdata(firsts), stats.rankdata(seconds))[0, 1])) < 0.08


def test_a_stream_is_what_a_plain_calculation_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks by sorting all numbers, normal quantiles and densities by SciPy, the sum over all starts."""
    rng = np.random.default_rng(1)
    reference, numbers = rng.lognormal(size=20), rng.lognormal(0.5, size=40)
    chances = rng.random(40)
    given = iter(chances)
    monkeypatch.setattr("service.drift.detector.random.random", lambda: next(given))
    stream = Stream(reference)
    seen, ratios = [bin_of(one) for one in reference], []
    for number, chance in zip(numbers, chances, strict=True):
        stream.add(number)
        seen.append(bin_of(number))
        ordered = sorted(seen)
        higher = len(seen) - len([one for one in ordered if one <= seen[-1]])
        p = (higher + chance * seen.count(seen[-1])) / len(seen)
        z = stats.norm.isf(p)
        ratios.append(stats.norm.pdf(z, SHIFTS) / stats.norm.pdf(z))
    starts = [np.prod(ratios[start:], axis=0) for start in range(len(ratios))]
    assert stream.statistics == pytest.approx(np.sum(starts, axis=0), rel=1e-6)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Of 60 runs of 300 pictures at most 300 / 1500 alarm in the mean; that 24 do has a chance below 1e-3."""
    random.seed(0)
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(60):
        product = ProductDrift(rng.lognormal(0, 0.3, 30), 1500)
        for score, distance in rng.lognormal(0, 0.3, (300, 2)):
            product.add(score, distance, 1)
        alarms += product.alarm is not None
    assert alarms < 24


@pytest.mark.parametrize(
    ("shift", "stream", "within"), [(3.0, "score", 12), (-2.0, "score", 30), (2.0, "distance", 30)]
)
def test_a_change_of_either_stream_is_found_soon(shift: float, stream: str, within: int) -> None:
    random.seed(0)
    rng = np.random.default_rng(0)
    product = ProductDrift(rng.lognormal(0, 0.3, 100), 100_000)
    for score, distance in rng.lognormal(0, 0.3, (1000, 2)):
        product.add(score, distance, 1)
    assert product.alarm is None
    change = math.exp(0.3 * shift)
    for score, distance in rng.lognormal(0, 0.3, (within, 2)):
        product.add(*((score * change, distance) if stream == "score" else (score, distance * change)), 1)
    assert product.alarm is not None
    assert product.alarm.stream == stream
    assert product.curve[-1].pictures == product.pictures == product.alarm.pictures
    assert product.curve[-1].score + product.curve[-1].distance == pytest.approx(product.statistic)
    before = product.statistic
    product.add(1.0, 1.0, 1)
    assert product.statistic == before  # nothing is learnt from then on


def test_a_curve_is_bounded_and_a_stride_leaves_pictures_out() -> None:
    product = ProductDrift([1.0], 1e12)
    for _ in range(3 * 5 * CURVE_POINTS):
        product.add(1.0, 1.0, 3)
    assert product.pictures == 5 * CURVE_POINTS
    assert CURVE_POINTS / 2 <= len(product.curve) <= CURVE_POINTS
    assert [point.pictures % product.spacing for point in product.curve] == [0] * len(product.curve)
