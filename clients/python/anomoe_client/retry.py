"""When a picture that got no answer is asked again."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from time import monotonic

from anomoe_client.errors import ClientError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True)
class Patience:
    """timeout_s: of each wait for the service. retry_s: how long after the first request another is sent.

    deadline_s: the age at which an answer is of no use any more, which the service is told.
    """

    timeout_s: float
    retry_s: float
    deadline_s: float | None


@dataclass
class Attempts:
    """The requests for one picture."""

    patience: Patience
    pauses: int = 0
    began: float = field(default_factory=monotonic)

    def left_s(self) -> float | None:
        """Seconds to the deadline, a millisecond at least; None without one."""
        deadline_s = self.patience.deadline_s
        return None if deadline_s is None else max(0.001, deadline_s - (monotonic() - self.began))

    def pause_s(self, error: ClientError) -> float:
        """How long to wait before the next request: what the service said, else more each time.

        Half of it is random, so that clients that were refused together do not come back together.
        Raises: the error when it will stay, or its time would be over.
        """
        backoff_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self.pauses) * random.uniform(0.5, 1)
        pause_s = max(error.retry_after_s, backoff_s)
        until_s = min(self.patience.retry_s, self.patience.deadline_s or self.patience.retry_s)
        if not error.is_transient or monotonic() - self.began + pause_s > until_s:
            raise error
        self.pauses += 1
        return pause_s


def seconds_of(retry_after: str) -> float:
    """Of a `Retry-After` header, which is seconds or a date; 0 when it is neither."""
    if retry_after.isdecimal() and retry_after.isascii():
        return float(retry_after)
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
