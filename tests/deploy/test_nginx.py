"""The nginx example before a running service: sizes, refusals, slow clients and the prefix."""

import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.deploy.conftest import until
from tests.deploy.podman import ROOT
from tests.service.conftest import encoded
from tests.service.running import ServiceProcess, free_port, service_process
from tests.tiny_bundle import make_tiny_bundle, plain_picture

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not (shutil.which("nginx") and shutil.which("openssl")), reason="no nginx or openssl"),
]

LINKS = re.compile(r"""(?:href|src)="(?!data:|#)([^"]+)"|url: '([^']+)'""")  # of a page, also of its script
AROUND = """
daemon off;
user root;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    {example}
}}
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("service")
    bundle = make_tiny_bundle(folder / "tiny")
    with service_process(bundle, folder / "log", root_path="/factory", queue_size=2) as process:
        yield process


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost, with its key in `key.pem` beside it."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    )
    names = ["-addext", "subjectAltName=DNS:localhost", "-out", "cert.pem", "-keyout", "key.pem"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def address(
    service: ServiceProcess, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """Host and port of nginx, which runs the example with other ports and files."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    example = (ROOT / "deploy/nginx/anomoe.conf").read_text(encoding="utf-8")
    for given, wanted in (
        ("127.0.0.1:8000", f"127.0.0.1:{service.port}"),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/nginx/tls/anomoe.crt", str(certificate)),
        ("/etc/nginx/tls/anomoe.key", str(certificate.with_name("key.pem"))),
    ):
        assert given in example
        example = example.replace(given, wanted)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, example=example))
    nginx = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-e", "stderr"])
    try:
        until(lambda: listens(port) or nginx.poll() is not None, "nginx does not listen")
        yield "localhost", port
    finally:
        nginx.terminate()
        nginx.wait()


@pytest.fixture
def client(address: tuple[str, int], certificate: Path) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(base_url=f"https://localhost:{address[1]}/factory", verify=context, timeout=60) as one:
        yield one


def listens(port: int) -> bool:
    """Whether somebody accepts connections."""
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def test_small_and_large_pictures_pass(client: httpx.Client) -> None:
    small = encoded(plain_picture("slate"))
    assert len(small) < 1024
    assert client.post("/detect", content=small).json()["category"] == "slate"
    large = BytesIO()
    Image.effect_noise((3200, 3125), 20).convert("RGB").save(large, "BMP")
    assert len(large.getvalue()) > 30_000_000
    assert client.post("/detect?map=none", content=large.getvalue()).status_code == 200


def test_maps_come_back_whole(client: httpx.Client) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (1200, 1600, 3), np.uint8)
    answer = client.post("/detect?map=npy", content=encoded(Image.fromarray(noise)))
    assert answer.json()["anomaly_map"]["width"] == 1600
    assert len(answer.content) > 4 * 1200 * 1600


def test_what_is_too_large_is_refused_by_the_service(client: httpx.Client) -> None:
    answer = client.post("/detect", content=bytes(32 * 2**20 + 1))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_missed_deadline_is_told_by_the_service(client: httpx.Client) -> None:
    headers = {"X-Deadline-Ms": "1", "X-Request-ID": "late"}
    answer = client.post("/detect", content=encoded(plain_picture("slate")), headers=headers)
    assert (answer.status_code, answer.json()["request_id"]) == (504, "late")
    assert answer.headers["x-request-id"] == "late"


def test_a_full_service_says_when_to_come_again(client: httpx.Client) -> None:
    picture = encoded(Image.effect_noise((2000, 2000), 20).convert("RGB"), "BMP")
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(client.post("/detect", content=picture))

    for _ in range(20):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if any(one.status_code == 429 for one in answers):
            break
    assert {one.status_code for one in answers} == {200, 429}
    refused = [one for one in answers if one.status_code == 429]
    assert int(refused[0].headers["retry-after"]) >= 1
    assert refused[0].json()["title"]


def test_a_slow_client_is_no_load_for_the_service(
    client: httpx.Client, service: ServiceProcess, address: tuple[str, int], certificate: Path
) -> None:
    body = encoded(plain_picture("slate"))
    head = f"POST /factory/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    context = ssl.create_default_context(cafile=str(certificate))
    with (
        socket.create_connection(address, timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as slow,
    ):
        slow.sendall(head + body[:10])
        assert client.post("/detect", content=body).status_code == 200
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        assert "anomoe_in_flight 1.0" in lines  # this one itself
        slow.sendall(body[10:])
        assert slow.recv(64).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_work_under_the_prefix(client: httpx.Client, path: str) -> None:
    page = client.get(path)
    if page.status_code == 404:
        pytest.skip(f"{path} is not served")
    found = [link or url for link, url in LINKS.findall(page.text)]
    assert found
    for link in found:
        assert client.get(page.url.join(link)).status_code == 200, link


def test_prometheus_is_not_for_outside(client: httpx.Client) -> None:
    assert client.get("/metrics").status_code == 404
