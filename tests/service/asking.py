"""What tests ask a service with, and how they look at its answers."""

import threading
from base64 import b64decode
from collections.abc import Mapping
from io import BytesIO

from fastapi import FastAPI
from httpx2 import Response
from PIL import Image
from starlette.testclient import TestClient

from service.models.runtime import Runtime
from tests.service.conftest import encoded
from tests.tiny_bundle import plain_picture, spotted_picture

NORMAL = encoded(plain_picture("brick"))
ANOMALOUS = encoded(spotted_picture("brick"))
PNG = {"Content-Type": "image/png"}


def check_problem(response: Response, status: int, slug: str, *words: str) -> None:
    problem = response.json()
    assert response.status_code == status, problem
    assert response.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert (problem["status"], problem["type"]) == (status, f"urn:anomoe:{slug}")
    assert problem["request_id"] == response.headers["x-request-id"]
    assert all(word in problem["detail"] for word in words), problem["detail"]


def runtime_in(service: TestClient) -> Runtime:
    app = service.app
    assert isinstance(app, FastAPI)
    return app.state.runtime


def picture_of(answer: Mapping[str, Mapping[str, str]]) -> Image.Image:
    return Image.open(BytesIO(b64decode(answer["anomaly_map"]["data"])))


def wait_until_ready(service: TestClient) -> None:
    for _ in range(500):
        if service.get("/readyz").status_code == 200:
            return
        threading.Event().wait(0.01)
    raise AssertionError("it does not recover")
