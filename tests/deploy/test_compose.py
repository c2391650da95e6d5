"""The compose file: every profile is understood, and Prometheus finds the service by its name."""

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deploy.conftest import PROJECT, is_ready, picture, until
from tests.deploy.podman import ROOT, build, podman
from tests.service.running import free_port

COMPOSE = Path(sys.executable).with_name("podman-compose")
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
PROMETHEUS = """
FROM localhost/debian:bookworm-slim
COPY prometheus /bin/prometheus
CMD ["/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
"""


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_hardened_and_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert all(":-127.0.0.1}" in port or port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", ["anomoe-gpu", "train-gpu"])
def test_a_gpu_is_reserved(name: str) -> None:
    (device,) = SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_a_gpu_is_insisted_on() -> None:
    assert SERVICES["anomoe-gpu"]["environment"]["ANOMOE_DEVICE"] == "cuda"


@pytest.mark.parametrize("profile", ["cpu", "gpu", "monitoring", "train"])
def test_each_profile_is_understood(profile: str) -> None:
    understood = subprocess.run(
        [COMPOSE, "--profile", profile, "config"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    wanted = {name for name, one in SERVICES.items() if profile in one.get("profiles", [profile])}
    assert set(yaml.safe_load(understood)["services"]) == wanted


@pytest.mark.alone
@pytest.mark.slow
def test_prometheus_scrapes_the_service_by_name(cpu_image: str, tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus, whose program stands in for the published image")
    shutil.copy(program, tmp_path)
    (tmp_path / "Dockerfile").write_text(PROMETHEUS)
    build(tmp_path, SERVICES["prometheus"]["image"])
    port, prometheus_port = free_port(), free_port()
    ports = {"PORT": str(port), "PROMETHEUS_PORT": str(prometheus_port)}
    options = ("--project-name", PROJECT, "--profile", "monitoring")
    try:
        podman(
            *options, "up", "--detach", "--no-build", "anomoe", "prometheus", program=str(COMPOSE), **ports
        )
        until(lambda: is_ready(f"http://127.0.0.1:{port}"), "the service is not ready")
        answer = httpx.post(f"http://127.0.0.1:{port}/detect", content=picture("board.png"), timeout=60)
        assert answer.status_code == 200
        query = f"http://127.0.0.1:{prometheus_port}/api/v1/query"
        counted = {"query": 'anomoe_images_total{job="anomoe",instance="anomoe:8000",category="board"} == 1'}
        until(lambda: bool(httpx.get(query, params=counted).json()["data"]["result"]), "nothing was scraped")
        rules = httpx.get(f"http://127.0.0.1:{prometheus_port}/api/v1/rules").json()["data"]["groups"]
        assert rules
        assert all(rule["health"] != "err" for group in rules for rule in group["rules"])
    finally:
        podman(*options, "down", "--volumes", program=str(COMPOSE))
        podman("rmi", "--force", SERVICES["prometheus"]["image"])
