"""Answers as JSON. A large one goes in pieces, between which the event loop and the client get on."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PIECE = 2**20  # bytes
LEFT_OUT = b'"data":""'  # never part of a text, whose quotes are escaped


class AnswerResponse(Response):
    """An answer of status 200, which is sent as it is, unchecked.

    cover: is told the bytes of one that is large before anything is sent. Raises: what `cover` raises.
    """

    media_type = "application/json"

    def __init__(self, answer: BaseModel, cover: Callable[[int], None]) -> None:
        maps: list[str] = []
        self._parts = _parts(answer.model_dump_json(context=maps).encode(), maps)
        self._size = sum(map(len, self._parts))
        if self._size > PIECE:
            cover(self._size)
        super().__init__(headers={"content-length": str(self._size)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send; returns once the client has taken all but the last of a large one."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._size <= PIECE:
            await send({"type": "http.response.body", "body": b"".join(map(_bytes, self._parts))})
        else:
            for piece in _pieces(self._parts):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(0)
            await send({"type": "http.response.body"})
        if self.background is not None:
            await self.background()


def _parts(text: bytes, maps: Sequence[str]) -> list[bytes | str]:
    """The answer with the data of the maps that were left out of it."""
    first, *others = text.split(LEFT_OUT) if maps else [text]
    parts: list[bytes | str] = [first]
    for data, after in zip(maps, others, strict=True):
        parts += (b'"data":"', data, b'"' + after)
    return parts


def _pieces(parts: Sequence[bytes | str]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), PIECE):
            yield _bytes(part[start : start + PIECE])


def _bytes(part: bytes | str) -> bytes:
    return part.encode() if isinstance(part, str) else part
