"""A runtime for GPUs that finds none says so; nothing else does."""

import warnings

import onnxruntime
import pytest
from structlog.testing import capture_logs

from tests.service.conftest import ServiceFactory


@pytest.mark.parametrize(
    ("device", "providers", "is_missed"),
    [
        ("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"], True),
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], False),
        ("auto", ["CPUExecutionProvider"], False),
    ],
)
def test_it_is_in_the_log_the_models_and_a_metric(
    start_service: ServiceFactory,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    providers: list[str],
    is_missed: bool,
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    with capture_logs() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the installed build knows no CUDA, as the runtime says
        service = start_service(device=device)
    (model,) = service.get("/models").json()["models"]
    assert (model["device"], model["misses_gpu"]) == ("cpu", is_missed)
    assert f"anomoe_gpu_missing {float(is_missed)}" in service.get("/metrics").text.splitlines()
    warned = [line for line in lines if line["log_level"] == "warning"]
    assert [line["setting"] for line in warned] == ["ANOMOE_DEVICE=cuda"] * is_missed
