"""What we rely on in other packages, beyond what they document, is there.

A new version of one of them may rename it without a word: pyproject bounds their versions, and whoever
raises a bound sees here what to look at.
"""

import inspect

import onnxruntime as ort
import pytest
import uvicorn
from fastapi.routing import APIRoute
from httptools import HttpParserUpgrade, HttpRequestParser
from starlette.formparsers import MultiPartParser
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

RELIED_ON: dict[type, str] = {
    HttpToolsProtocol: "connection_made connection_lost data_received pause_writing resume_writing shutdown "
    "on_message_begin on_header on_headers_complete on_body on_message_complete on_response_complete "
    "_unset_keepalive_if_required app_state parser headers url cycle flow pipeline transport client "
    "server_state loop",
    RequestResponseCycle: "response_started response_complete keep_alive disconnected message_event",
    FlowControl: "pause_reading",
    ServerState: "connections default_headers",
    uvicorn.Server: "serve _serve capture_signals should_exit force_exit server_state started config",
    uvicorn.Config: "timeout_graceful_shutdown",
    HttpRequestParser: "feed_data should_upgrade get_method get_http_version set_dangerous_leniencies",
    HttpParserUpgrade: "args",
    MultiPartParser: "spool_max_size",
    Response: "raw_headers background",
    Route: "matches handle methods path param_convertors",
    APIRoute: "matches handle",
    ort.RunOptions: "add_run_config_entry",
    ort.SessionOptions: "add_session_config_entry",
    ort.InferenceSession: "io_binding run_with_iobinding get_providers",
    ort.OrtAllocatorType: "ORT_ARENA_ALLOCATOR",
}


def members(of: type) -> set[str]:
    """What a class has, and whatever its methods name: an instance has what they set."""
    methods = [one for base in of.__mro__ for one in vars(base).values() if inspect.isfunction(one)]
    return {*dir(of), *(name for method in methods for name in method.__code__.co_names)}


@pytest.mark.parametrize("of", RELIED_ON, ids=lambda of: of.__name__)
def test_members_are_there(of: type) -> None:
    assert set(RELIED_ON[of].split()) <= members(of)


def test_functions_and_tables_are_there() -> None:
    assert httptools_impl.STATUS_LINE[400] == b"HTTP/1.1 400 Bad Request\r\n"
    for name in ("create_and_register_allocator", "OrtMemoryInfo", "OrtArenaCfg", "OrtMemType"):
        assert hasattr(ort, name), name
