"""Logs are JSON lines off a terminal, for structlog and the standard library alike."""

import json
import logging
import sys
from io import StringIO

import pytest
import structlog

from service.api_keys import make_key
from service.logging import configure_logging

pytestmark = pytest.mark.usefixtures("restored_logging")


def test_json_lines_carry_the_request_id_and_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    with structlog.contextvars.bound_contextvars(request_id="abc"):
        structlog.stdlib.get_logger("anomoe.test").info("request", status=200)
        try:
            raise KeyError("lost")
        except KeyError:
            logging.getLogger("other").exception("failed")
            structlog.stdlib.get_logger("anomoe.test").exception("failed too")
    ours, *failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["status"], ours["level"]) == ("request", 200, "info")
    assert [line["event"] for line in failed] == ["failed", "failed too"]
    for line in failed:
        assert line["request_id"] == ours["request_id"] == "abc"
        assert "KeyError: 'lost'" in line["exception"]
    assert [line["logger"] for line in (ours, *failed)] == ["anomoe.test", "other", "anomoe.test"]


def test_level_is_respected(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning")
    structlog.stdlib.get_logger("anomoe.test").info("quiet")
    logging.getLogger("other").info("quiet")
    assert capsys.readouterr().err == ""


def test_a_stderr_that_takes_nothing_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    configure_logging("info")
    structlog.stdlib.get_logger("anomoe.test").info("lost")
    structlog.stdlib.get_logger("anomoe.test").error("lost too")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_keys_that_callers_put_anywhere_are_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    configure_logging("info")
    key, _ = make_key("cam", "infer")
    with structlog.contextvars.bound_contextvars(request_id=key):
        structlog.stdlib.get_logger("anomoe.request").info(
            "request", path=f"/{key}/models", client=f"id {key}"
        )
        logging.getLogger("uvicorn.error").warning("refused %s", key[:40])
    line, other = capsys.readouterr().err.splitlines()
    assert key[:40] not in line + other
    assert "/anomoe_***/models" in line
    assert "refused anomoe_***" in other
