"""The service keeps to its own OpenAPI description, whatever is sent to it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from service.api_keys import Role, add_key, make_key
from tests.service.running import service_process
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle

CHECKS: list[Any] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.negative_data_rejection,
]
OPERATIONS = (
    "POST /detect",
    "POST /detect/batch",
    "POST /zero-shot",
    "GET /categories",
    "GET /categories/{name}/calibration",
    "GET /models",
    "POST /models/reload",
    "GET /drift",
    "POST /drift/reset",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "POST /feedback",
)
CONFIG = Path(__file__).parents[3] / "schemathesis.toml"
SCHEMATHESIS = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run"]
WITH_PARAMETERS = OPERATIONS[:3]
CASES = [
    *((name, GenerationMode.POSITIVE) for name in OPERATIONS),
    *((name, GenerationMode.NEGATIVE) for name in WITH_PARAMETERS),
]


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


def is_written_right(case: Case) -> bool:
    """Whether a form has a list of none or one where one value is wanted, which is written like it."""
    fields = case.body if case.media_type == "multipart/form-data" and isinstance(case.body, dict) else {}
    singles = [value for name, value in fields.items() if name not in ("file", "class_names")]
    return any(isinstance(value, list) and len(value) < 2 for value in singles)


def test_every_operation_is_tried(described: dict[str, object]) -> None:
    assert set(described) == set(OPERATIONS)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_answers_are_those_described(
    described: dict[str, APIOperation], name: str, mode: GenerationMode
) -> None:
    @settings(
        max_examples=20,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=described[name].as_strategy(mode))
    def answered_as_described(case: Case) -> None:
        left_out = [checks.negative_data_rejection] if is_written_right(case) else []
        case.call_and_validate(checks=CHECKS, excluded_checks=left_out, timeout=60)

    answered_as_described()


@pytest.mark.parametrize("role", [None, "infer", "admin"])
def test_each_word_of_the_description_is_kept(bundle_folder: Path, tmp_path: Path, role: Role | None) -> None:
    """Obeyed once and broken once, with every check; no schema says which bytes are a picture."""
    settings, headers = {}, []
    if role:
        key, entry = make_key("cam", role)
        add_key(tmp_path / "keys.txt", entry)
        settings, headers = {"api_keys_file": tmp_path / "keys.txt"}, ["--header", f"X-API-Key: {key}"]
    zero_shot = make_tiny_zero_shot_bundle(tmp_path / "zero-shot")
    with service_process(f"{bundle_folder},{zero_shot}", tmp_path / "log", **settings) as service:
        command = [*SCHEMATHESIS, f"{service.url}/openapi.json", "--phases", "coverage", *headers]
        done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
