"""How fast the service works, measured while it does."""

import math
from time import perf_counter

WEIGHT = 0.1  # of the latest interval


class Pace:
    """Seconds between answers while there is work, averaged over about the last twenty.

    seconds: the estimate to begin with, from the warm-up.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last = perf_counter()

    def begin(self) -> None:
        """Work begins after a pause, which does not count."""
        self._last = perf_counter()

    def answered(self) -> None:
        """One more request has its answer."""
        now = perf_counter()
        self.seconds += WEIGHT * (now - self._last - self.seconds)
        self._last = now

    def wait_s(self, requests: int) -> float:
        """Seconds until that many requests are answered."""
        return requests * self.seconds

    def retry_after(self, requests: int) -> str:
        """When it is worth coming back, as `Retry-After` has it: whole seconds, at least one."""
        return str(max(1, math.ceil(self.wait_s(requests))))
