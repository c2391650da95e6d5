"""What is raised, or given in the place of an answer."""


class ClientError(Exception):
    """There is no answer; the message says why in one line.

    is_transient: whether the same request may be answered later, after `retry_after_s` at the earliest.
    """

    is_transient = False
    retry_after_s = 0.0


class PictureError(ClientError):
    """The picture cannot be read from its file."""


class UnreachableError(ClientError):
    """No connection, a lost one, or no answer in time."""

    def __init__(self, reason: str, *, is_transient: bool) -> None:
        super().__init__(reason)
        self.is_transient = is_transient


class ProblemError(ClientError):
    """The service, or what stands before it, refused; `type`, `title` and `detail` are those of RFC 9457.

    Of an answer that is no problem document `type` is `about:blank`, and `detail` is empty.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int,
        type: str,
        title: str,
        detail: str,
        request_id: str | None,
        retry_after_s: float,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.type = type
        self.title = title
        self.detail = detail
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.is_transient = status in (429, 502, 503)
