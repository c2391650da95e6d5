"""Answers as JSON. A large one goes in pieces, between which the event loop and the client get on."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from pydantic import BaseModel
from starlette.types import Send

PIECE = 2**20  # bytes
LEFT_OUT = b'"data":""'  # never part of a text, whose quotes are escaped


async def send_json(answer: BaseModel, send: Send, cover: Callable[[int], None]) -> None:
    """Send an answer of status 200; returns once the client has taken all but the last of a large one.

    Raises: what `cover` raises, which is told the bytes of one that is large before anything is sent.
    """
    maps: list[str] = []
    parts = _parts(answer.model_dump_json(context=maps).encode(), maps)
    size = sum(map(len, parts))
    if size > PIECE:
        cover(size)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if size <= PIECE:
        await send({"type": "http.response.body", "body": b"".join(map(_bytes, parts))})
        return
    for piece in _pieces(parts):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body"})


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
