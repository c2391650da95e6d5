"""The line through measured times."""

import pytest

from service.curve import Curve, fit_curve


def test_a_line_and_what_it_says() -> None:
    curve = fit_curve({1: 5.0, 2: 7.0, 4: 11.0})
    assert (curve.each_s, curve.fixed_s) == pytest.approx((2, 3))
    assert curve.seconds(10) == pytest.approx(23)


def test_one_number_of_items_is_all_slope() -> None:
    assert fit_curve({2: 5.0}) == Curve(2.5, 0.0)


def test_neither_part_is_below_0() -> None:
    assert fit_curve({1: 1.0, 2: 3.0, 4: 7.0}).fixed_s == 0
    falling = fit_curve({1: 5.0, 2: 4.0})
    assert (falling.each_s, falling.fixed_s) == (0.0, pytest.approx(6))
