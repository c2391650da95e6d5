"""What is work is told by its route: permits, limits and roles hold, and the framework does the rest."""

import asyncio
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from service.api import probes
from service.api.detect import work
from service.api.models import router
from service.api.zero_shot import work as zero_shot_work
from service.api_keys import add_key, make_key
from service.middleware.admission import WorkRoute, runtime_of, work_router
from service.middleware.authentication import needs_admin
from service.middleware.responses import AnswerResponse
from service.schemas.models import HealthAnswer
from tests.service.asking import NORMAL, PNG, check_problem, runtime_in
from tests.service.conftest import ServiceFactory
from tests.service.middleware.test_admission import call, refuse_full

lots = work_router("anomalymoe")
ran: list[str] = []


async def noted() -> None:
    ran.append("dependency")


def with_pass(lot: str, given: str = "") -> None:
    if given != "right":
        raise HTTPException(403, f"{lot} takes no {given!r}")


@lots.post("/lots/{lot}/pictures/{number}", dependencies=[Depends(noted)])
async def add(request: Request, lot: str, number: int, tasks: BackgroundTasks) -> Response:
    tasks.add_task(ran.append, f"{lot} {number} {runtime_of(request.app).permits.taken}")
    return AnswerResponse(HealthAnswer(status="ready"), request.state.permit.cover_answer)


@lots.post("/lots/{lot}", dependencies=[Depends(with_pass)])
async def label(body: Annotated[dict[str, str], Body()]) -> dict[str, str]:
    return body


@pytest.fixture
def service(start_service: ServiceFactory) -> TestClient:
    service = start_service(queue_size=64, max_body_bytes=1000)
    app_of(service).include_router(lots)
    ran.clear()
    return service


def app_of(service: TestClient) -> FastAPI:
    assert isinstance(service.app, FastAPI)
    return service.app


def test_parameters_dependencies_and_tasks_of_a_work_route_are_the_frameworks(service: TestClient) -> None:
    assert service.post("/lots/a7/pictures/3").json() == {"status": "ready"}
    assert ran == ["dependency", "a7 3 1"]
    assert runtime_in(service).permits.taken == 0
    check_problem(service.post("/lots/a7/pictures/x"), 422, "invalid-parameter", "path.number", "'x'")


def test_a_dependency_refuses_with_a_problem_of_its_status(service: TestClient) -> None:
    check_problem(service.post("/lots/a7?given=wrong", json={}), 403, "forbidden", "a7 takes no 'wrong'")
    assert service.post("/lots/a7?given=right", json={"is": "good"}).json() == {"is": "good"}
    check_problem(service.post("/lots/a7?given=right", json=[]), 422, "invalid-parameter", "body")


def test_a_body_that_the_framework_reads_is_limited(service: TestClient) -> None:
    large = service.post("/lots/a7?given=right", content=iter([b" " * 300] * 4))
    check_problem(large, 413, "too-large", "1200", "1000")
    assert large.headers["connection"] == "close"


ODD = ("\n", "/", ";x", "\x00", "/.", "%0A", " ")
NOT_QUITE = [f"/detect{end}" for end in ODD] + ["//detect", "/./detect", "/DETECT", "/lots/a7/pictures/3\n"]


@pytest.mark.parametrize("path", NOT_QUITE)
def test_an_odd_path_gets_past_no_permit(service: TestClient, path: str) -> None:
    """Nothing is read of what no route takes."""
    undo = refuse_full(service)
    status, _, asked = asyncio.run(call(app_of(service), path=path, content_length="1000"))
    undo()
    assert (status, asked) == (404, 0)


def test_a_route_needs_its_permit_wherever_it_is(service: TestClient) -> None:
    app, outer = app_of(service), FastAPI()
    outer.mount("/line", app)
    app.include_router(work, prefix="/v9")
    undo = refuse_full(service)
    for asked_of, path in ((app, "/lots/a7/pictures/3"), (app, "/v9/detect"), (outer, "/line/detect")):
        status, headers, asked = asyncio.run(call(asked_of, path=path, content_length="1000"))
        assert (status, asked) == (429, 0), path
        assert int(headers["retry-after"]) >= 1
    undo()
    assert not ran
    assert service.post("/v9/detect", content=NORMAL, headers=PNG).status_code == 200


def test_a_route_for_admins_is_so_wherever_it_is(start_service: ServiceFactory, tmp_path: Path) -> None:
    key, entry = make_key("cam", "infer")
    add_key(tmp_path / "keys.txt", entry)
    service = start_service(api_keys_file=tmp_path / "keys.txt")
    app_of(service).include_router(router, prefix="/v9")
    for path in ("/models/reload", "/v9/models/reload"):
        check_problem(service.post(path, headers={"X-API-Key": key}), 403, "forbidden", "cam")


def test_whatever_may_have_a_body_is_work_or_for_admins() -> None:
    routes = [one for group in (work, zero_shot_work, router, probes.router) for one in group.routes]
    for route in routes:
        assert isinstance(route, APIRoute)
        is_for_admins = needs_admin in [one.dependency for one in route.dependencies]
        assert route.methods == {"GET"} or isinstance(route, WorkRoute) or is_for_admins, route.path
