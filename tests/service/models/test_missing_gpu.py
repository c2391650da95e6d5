"""A machine or a runtime for GPUs on which the CPU computes says so; nothing else does."""

import warnings
from pathlib import Path

import onnxruntime
import pytest
from structlog.testing import capture_logs

from tests.service.conftest import ServiceFactory


@pytest.mark.parametrize(
    ("device", "providers", "gpus", "is_missed"),
    [
        ("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"], 0, True),
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], 1, False),
        ("auto", ["CPUExecutionProvider"], 0, False),
        ("auto", ["CPUExecutionProvider"], 1, True),
    ],
)
def test_it_is_in_the_log_the_models_and_a_metric(
    start_service: ServiceFactory,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    device: str,
    providers: list[str],
    gpus: int,
    is_missed: bool,
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr("service.inference.backends.loading.GPUS", tmp_path)
    for number in range(gpus):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
    with capture_logs() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the installed build knows no CUDA, as the runtime says
        service = start_service(device=device)
    (model,) = service.get("/models").json()["models"]
    assert (model["device"], model["misses_gpu"]) == ("cpu", is_missed)
    assert f"anomoe_gpu_missing {float(is_missed)}" in service.get("/metrics").text.splitlines()
    warned = [line for line in lines if line["log_level"] == "warning"]
    assert [line["setting"] for line in warned] == ["ANOMOE_DEVICE=cuda"] * is_missed
