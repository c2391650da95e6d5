"""How fast pictures are answered, measured while they are."""

from time import perf_counter

# Of the latest interval. Answers come by the batch: with 0.1 the mean is now and then a third too short, and
# lets requests in then that pass their deadlines.
WEIGHT = 0.02


class Pace:
    """Seconds between answers while there is work, averaged over about the last hundred.

    seconds: the estimate to begin with, from the warm-up.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last = perf_counter()

    def answered(self, since: float) -> None:
        """One more picture has its answer; it was worked on from `since` on (`perf_counter`).

        The time without work before that does not count.
        """
        now = perf_counter()
        self.seconds += WEIGHT * (now - max(self._last, since) - self.seconds)
        self._last = now
