"""Who a request counts for, and until when it may take."""

import math

import pytest
from starlette.types import Scope

from service.errors import Kind, Problem
from service.middleware.identity import caller_of
from service.scheduling.caller import Caller


def scope(**headers: str) -> Scope:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "headers": pairs, "client": ("10.0.0.7", 4711)}


def test_a_key_goes_before_an_id_and_an_id_before_an_address() -> None:
    assert caller_of(scope(x_client_id="cam-1"), "line-7", 0, 0).client == "key line-7"
    assert caller_of(scope(x_client_id="cam-1"), None, 0, 0).client == "id cam-1"
    assert caller_of(scope(), None, 0, 0).client == "address 10.0.0.7"
    for wrong in ("", "two words", "x" * 129):
        assert caller_of(scope(x_client_id=wrong), None, 0, 0).client == "address 10.0.0.7"
    assert caller_of({"type": "http", "headers": []}, None, 0, 0).client == "address "


def test_deadlines_come_from_the_header_else_the_setting() -> None:
    assert caller_of(scope(x_deadline_ms="250"), None, 10, 9000).deadline == 10.25
    assert caller_of(scope(x_deadline_ms="0.5"), None, 10, 0).deadline == 10.0005
    assert caller_of(scope(), None, 10, 2000).deadline == 12
    assert caller_of(scope(), None, 10, 0).deadline == math.inf


@pytest.mark.parametrize("value", ["soon", "-1", "0", "1e3", "inf", "", "9" * 30, "1 2"])
def test_a_wrong_deadline_is_named(value: str) -> None:
    with pytest.raises(Problem, match="X-Deadline-Ms") as caught:
        caller_of(scope(x_deadline_ms=value), None, 0, 0)
    assert caught.value.kind is Kind.INVALID_PARAMETER


def test_a_deadline_that_has_passed() -> None:
    Caller().check("anything", "body")
    with pytest.raises(Problem, match="before the dinner") as caught:
        Caller("a", 0.0).check("the dinner", "body")
    assert caught.value.kind is Kind.DEADLINE
