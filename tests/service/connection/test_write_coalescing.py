"""What one step of the event loop writes is sent in one piece."""

import asyncio
from typing import cast

from service.connection.write_coalescing import CoalescingTransport


class Sent:
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        self.what: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.what.append(data)

    def close(self) -> None:
        self.what.append(b"closed")

    def pause_reading(self) -> None:
        self.what.append(b"paused")

    def resume_reading(self) -> None:
        self.what.append(b"resumed")

    def is_closing(self) -> bool:
        return b"closed" in self.what


def test_head_and_body_are_one_piece_and_nothing_waits_for_the_next_step() -> None:
    async def scenario() -> None:
        sent = Sent()
        corked = CoalescingTransport(cast("asyncio.Transport", sent), asyncio.get_running_loop())
        corked.write(b"head ")
        corked.write(b"body")
        assert sent.what == []
        await asyncio.sleep(0)
        assert sent.what == [b"head body"]
        corked.write(b"more")
        corked.flush()
        await asyncio.sleep(0)
        assert sent.what == [b"head body", b"more"]

    asyncio.run(scenario())


def test_what_is_held_is_sent_before_closing() -> None:
    async def scenario() -> None:
        sent = Sent()
        corked = CoalescingTransport(cast("asyncio.Transport", sent), asyncio.get_running_loop())
        corked.write(b"last words")
        assert not corked.is_closing()
        corked.close()
        await asyncio.sleep(0)
        assert sent.what == [b"last words", b"closed"]
        assert corked.is_closing()

    asyncio.run(scenario())


def test_reading_is_paused_when_more_comes_and_only_then_resumed() -> None:
    async def scenario() -> None:
        sent = Sent()
        corked = CoalescingTransport(cast("asyncio.Transport", sent), asyncio.get_running_loop())
        corked.note_received()
        corked.pause_reading()
        corked.resume_reading()
        corked.note_received()
        assert sent.what == []
        corked.pause_reading()
        corked.note_received()
        corked.note_received()
        assert sent.what == [b"paused"]
        corked.resume_reading()
        corked.resume_reading()
        corked.note_received()
        assert sent.what == [b"paused", b"resumed"]

    asyncio.run(scenario())
