"""The example for KServe has fields of its own classes only; what is a pod's is checked with the chart."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

from tests.deploy.podman import ROOT

pytestmark = pytest.mark.slow

PLAIN_TYPES = {"str": str, "int": int, "bool": bool}
FILES = {
    "V1beta1InferenceService": "v1beta1_inference_service",
    "V1beta1InferenceServiceSpec": "v1beta1_inference_service_spec",
    "V1beta1PredictorSpec": "v1beta1_predictor_spec",
}


@pytest.fixture
def wheel(tmp_path: Path) -> ZipFile:
    """KServe's package, which is read and not installed: it brings a hundred others."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path]
    if subprocess.run([*download, "kserve==0.21.0"], check=False, capture_output=True).returncode:
        pytest.skip("no package index to read KServe's classes from")
    return ZipFile(next(tmp_path.glob("kserve-*.whl")))


def fields(wheel: ZipFile, name: str) -> dict[str, str]:
    """The fields of a class, as they are called in YAML, and their types."""
    tree = ast.parse(wheel.read(f"kserve/models/{FILES[name]}.py"))
    dictionaries = {
        target.id: ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {shown: dictionaries["openapi_types"][own] for own, shown in dictionaries["attribute_map"].items()}


def wrong_fields(wheel: ZipFile, name: str, value: dict[str, Any]) -> list[str]:
    known, wrong = fields(wheel, name), []
    for field, given in value.items():
        kind = known.get(field)
        if kind in FILES:
            wrong += wrong_fields(wheel, kind, given)
        elif kind is None or (kind in PLAIN_TYPES and type(given) is not PLAIN_TYPES[kind]):
            wrong.append(f"{name}.{field}: {kind} is expected, got {given!r}")
    return wrong


def test_the_example_has_fields_of_kserve_only(wheel: ZipFile) -> None:
    service = yaml.safe_load((ROOT / "deploy/kserve/inferenceservice.yaml").read_text(encoding="utf-8"))
    assert wrong_fields(wheel, "V1beta1InferenceService", service) == []
    service["spec"]["predictor"] |= {"maxReplica": 8, "minReplicas": "2"}
    wrong = wrong_fields(wheel, "V1beta1InferenceService", service)
    assert [one.partition(":")[0].rpartition(".")[2] for one in wrong] == ["minReplicas", "maxReplica"]
