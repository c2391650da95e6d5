"""The service keeps to its own OpenAPI description, whatever is sent to it."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

CHECKS: list[Any] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
OPERATIONS = (
    "POST /detect",
    "POST /detect/batch",
    "POST /zero-shot",
    "GET /categories",
    "GET /models",
    "POST /models/reload",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
)


@pytest.fixture(scope="module")
def described(service_url: str) -> dict[str, APIOperation]:
    """Every operation that the running service describes, by method and path."""
    schema = schemathesis.openapi.from_url(f"{service_url}/openapi.json")
    operations: dict[str, APIOperation] = {}
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        operations[f"{operation.method.upper()} {operation.path}"] = operation
    return operations


def test_every_operation_is_tried(described: dict[str, object]) -> None:
    assert set(described) == set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_those_described(described: dict[str, APIOperation], name: str) -> None:
    @settings(
        max_examples=20,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=described[name].as_strategy())
    def answered_as_described(case: Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    answered_as_described()
