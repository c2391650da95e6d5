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
        transport = CoalescingTransport(cast("asyncio.Transport", sent), asyncio.get_running_loop())
        transport.write(b"head ")
        transport.write(b"body")
        assert sent.what == []
        await asyncio.sleep(0)
        assert sent.what == [b"head body"]
        transport.write(b"more")
        transport.flush()
        await asyncio.sleep(0)
        assert sent.what == [b"head body", b"more"]

    asyncio.run(scenario())


def test_what_is_held_is_sent_before_closing() -> None:
    async def scenario() -> None:
        sent = Sent()
        transport = CoalescingTransport(cast("asyncio.Transport", sent), asyncio.get_running_loop())
        transport.write(b"last words")
        assert not transport.is_closing()
        transport.close()
        await asyncio.sleep(0)
        assert sent.what == [b"last words", b"closed"]
        assert transport.is_closing()

    asyncio.run(scenario())


def test_reading_is_paused_when_more_comes_and_only_then_resumed() -> None:
    async def scenario() -> None:
        sent = Sent()
        transport = CoalescingTransport(cast("asyncio.Transport", sent), asyncio.get_running_loop())
        transport.note_received()
        transport.pause_reading()
        transport.resume_reading()
        transport.note_received()
        assert sent.what == []
        transport.pause_reading()
        transport.note_received()
        transport.note_received()
        assert sent.what == [b"paused"]
        transport.resume_reading()
        transport.resume_reading()
        transport.note_received()
        assert sent.what == [b"paused", b"resumed"]

    asyncio.run(scenario())
