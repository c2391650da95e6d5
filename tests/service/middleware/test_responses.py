"""What is sent in pieces is the same answer."""

import asyncio
import json
from collections.abc import Callable

import pytest
from starlette.types import Message

from service.errors import Kind, Problem, problem_answer
from service.middleware.responses import PIECE, AnswerResponse
from service.schemas.common import MapAnswer, ModelRef
from service.schemas.detect import BatchAnswer, DetectAnswer


def answer_with(data: str | None, request_id: str = "id") -> DetectAnswer:
    anomaly_map = None if data is None else MapAnswer(encoding="npy", width=2, height=3, data=data)
    return DetectAnswer(
        request_id=request_id,
        model=ModelRef(name="\u74f6", version="1", digest="sha256:1"),
        category=None,
        category_source="unknown",
        score=None,
        raw_score=0.5,
        threshold=None,
        p_value=None,
        alpha=0.01,
        is_anomalous=True,
        reason="unknown_product",
        distance=2.0,
        distance_limit=1.0,
        levels={},
        experts=[],
        regions=[],
        anomaly_map=anomaly_map,
        timings_ms={},
        batch_size=1,
    )


def sent(answer: DetectAnswer | BatchAnswer, cover: Callable[[int], None] = lambda _: None) -> list[Message]:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    asyncio.run(AnswerResponse(answer, cover)({"type": "http"}, receive, send))
    return messages


def body_of(messages: list[Message]) -> bytes:
    body = b"".join(message.get("body", b"") for message in messages)
    assert dict(messages[0]["headers"])[b"content-length"] == b"%d" % len(body)
    *others, last = (message.get("more_body", False) for message in messages[1:])
    assert all(others)
    assert not last
    return body


@pytest.mark.parametrize("data", [None, "", "abc", "a" * (PIECE - 1000)])
def test_a_small_answer_goes_in_one_piece(data: str | None) -> None:
    answer = answer_with(data)
    messages = sent(answer, lambda _: pytest.fail("it is not large"))
    assert len(messages) == 2
    assert json.loads(body_of(messages)) == json.loads(answer.model_dump_json())


ODD = 'x"data":""y\\'


@pytest.mark.parametrize(
    "answers",
    [
        [
            answer_with("a" * PIECE),
            answer_with("bc"),
            answer_with(None, ODD),
            answer_with("d" * (2 * PIECE + 5), ODD),
        ],
        [answer_with("a" * 100_000)] * 30,
        [answer_with("", ODD)] * 3000,
    ],
)
def test_a_large_answer_comes_in_pieces_and_is_the_same(answers: list[DetectAnswer]) -> None:
    problem = problem_answer(Problem(Kind.BUSY, ODD), ODD)
    answer = BatchAnswer(request_id=ODD, results=[problem, *answers])
    covered: list[int] = []
    messages = sent(answer, covered.append)
    body = body_of(messages)
    assert max(len(message.get("body", b"")) for message in messages) <= PIECE
    assert covered == [len(body)]
    assert json.loads(body) == json.loads(answer.model_dump_json())


def test_maps_that_find_no_room_are_refused_before_anything_is_sent() -> None:
    def refuse(_: int) -> None:
        raise Problem(Kind.BUSY, "full")

    with pytest.raises(Problem, match="full"):
        sent(answer_with("a" * PIECE), refuse)
