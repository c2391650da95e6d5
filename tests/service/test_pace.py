"""The pace is that of the work, whatever comes or does not come in between."""

import pytest

from service.pace import Pace


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("service.pace.perf_counter", lambda: self.now)

    def after(self, seconds: float) -> float:
        self.now += seconds
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_it_follows_the_answers_and_no_pause(clock: Clock) -> None:
    pace = Pace(10.0)
    for _ in range(200):
        began = clock.after(50)
        for _ in range(3):
            clock.after(2)
            pace.answered(began)
    assert pace.seconds == pytest.approx(2, rel=0.01)


def test_pictures_that_come_seldom_take_no_longer_than_they_are_worked_on(clock: Clock) -> None:
    """Also while something else is always under way, of which nothing comes."""
    pace = Pace(10.0)
    for _ in range(500):
        began = clock.after(1.0)
        clock.after(0.02)
        pace.answered(began)
    assert pace.seconds == pytest.approx(0.02, rel=0.1)
