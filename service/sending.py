"""Answers as JSON. Large maps go in pieces, between which the event loop and the client get on."""

import asyncio
from collections.abc import Iterator, Sequence

from pydantic import BaseModel
from starlette.types import Send

from service.permits import Cover

PIECE = 2**20  # characters
LEFT_OUT = b'"data":""'  # never part of a text, whose quotes are escaped


async def send_json(answer: BaseModel, send: Send, cover: Cover) -> None:
    """Send an answer of status 200; returns once the client has taken all but the last of large maps.

    Raises: what `cover` raises, which is told the characters of large maps before anything is sent.
    """
    large: list[str] = []
    text = answer.model_dump_json(context=large).encode()
    size = sum(map(len, large))
    if large:
        cover(size)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % (len(text) + size))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in _pieces(text, large) if large else ():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"" if large else text})


def _pieces(text: bytes, large: Sequence[str]) -> Iterator[bytes]:
    """The answer with what was left out of it."""
    first, *others = text.split(LEFT_OUT)
    yield first
    for data, after in zip(large, others, strict=True):
        yield b'"data":"'
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE].encode()
        yield b'"' + after
