"""Permits bound what is worked on at once."""

import pytest

from service.errors import Kind, Problem
from service.pace import Pace
from service.permits import Permits


def test_the_last_permit_is_followed_by_429_until_one_is_given_back() -> None:
    permits = Permits(2, 100, Pace(0.5))
    with permits.hold():
        with permits.hold(), pytest.raises(Problem) as caught, permits.hold():
            pass
        with permits.hold():
            assert permits.taken == 2
    assert caught.value.kind is Kind.BUSY
    assert int(caught.value.headers["Retry-After"]) >= 1
    assert permits.taken == 0


def test_a_permit_is_given_back_after_an_error() -> None:
    permits = Permits(1, 100, Pace(0.5))
    with pytest.raises(RuntimeError), permits.hold():
        raise RuntimeError
    assert permits.taken == 0
