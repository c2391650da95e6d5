"""The process: signals and exit codes."""

import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from PIL import Image

from service.connection.listener import listen
from service.connection.server import ONE_SIGNAL_S
from tests.service.conftest import encoded
from tests.service.running import ServiceProcess, connect, service_process, until_closed
from tests.tiny_bundle import plain_picture

pytestmark = pytest.mark.alone

NORMAL = encoded(plain_picture("brick"))
PNG = {"Content-Type": "image/png"}
STOPS = int(os.environ.get("SOAK_STOPS", "3"))
WAIT_S = 60


class Askers:
    """Threads that ask until the service is gone; the statuses they got."""

    def __init__(self, url: str, count: int) -> None:
        self.url = url
        self.statuses: list[int] = []
        self.threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, headers=PNG, timeout=30) as client:
            while True:
                try:
                    self.statuses.append(client.post("/detect", content=NORMAL).status_code)
                except httpx.TransportError:
                    return

    def join(self) -> None:
        for thread in self.threads:
            thread.join(WAIT_S)


def answered(log: Path) -> list[int]:
    """Statuses of all requests for work that the service logged."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["status"] for line in lines if line["event"] == "request" and line["path"] == "/detect"]


@pytest.mark.parametrize("repetition", range(STOPS))
def test_sigterm_under_load_loses_nothing_that_was_accepted(
    bundle_folder: Path, tmp_path: Path, repetition: int
) -> None:
    with service_process(bundle_folder, tmp_path / "log", queue_size=4) as service:
        askers = Askers(service.url, 6)
        while askers.statuses.count(200) < 20:
            assert any(thread.is_alive() for thread in askers.threads), service.log.read_text()
            time.sleep(0.01)
        assert service.children() == []
        service.terminate()
        assert service.popen.wait(WAIT_S) == 0
        askers.join()
    assert set(askers.statuses) <= {200, 429, 503}
    logged = answered(tmp_path / "log")
    assert logged.count(200) == askers.statuses.count(200)
    assert 499 not in logged


@pytest.fixture(scope="module")
def service(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with little patience."""
    log = tmp_path_factory.mktemp("server") / "log"
    with service_process(
        bundle_folder, log, queue_size=4, header_timeout_s=0.3, body_timeout_s=0.4
    ) as running:
        yield running


def test_sighup_reloads(service: ServiceProcess) -> None:
    service.popen.send_signal(signal.SIGHUP)
    for _ in range(500):
        if "reloaded" in service.log.read_text():
            break
        time.sleep(0.01)
    assert "reloaded" in service.log.read_text()
    assert httpx.get(f"{service.url}/readyz").status_code == 200


def test_broken_pictures_leave_lines_of_json_alone(service: ServiceProcess) -> None:
    whole = encoded(Image.effect_noise((40, 30), 60), "TIFF", compression="tiff_adobe_deflate")
    for place in range(8, len(whole), len(whole) // 40):
        broken = whole[:place] + b"\xff" + whole[place + 1 :]
        assert httpx.post(f"{service.url}/detect", content=broken).status_code in (200, 413, 415, 422)
    assert all(json.loads(line)["event"] for line in service.log.read_text().splitlines())


@contextmanager
def held_upload(service: ServiceProcess) -> Iterator[None]:
    """An upload that was accepted and does not go on."""
    with connect(service) as connection:
        connection.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        while "anomoe_in_flight 2.0" not in httpx.get(f"{service.url}/metrics").text:
            time.sleep(0.02)
        yield


def test_a_second_signal_ends_at_once(bundle_folder: Path, tmp_path: Path) -> None:
    with service_process(bundle_folder, tmp_path / "log") as running, held_upload(running):
        running.terminate()
        while "SIGTERM" not in running.log.read_text():
            time.sleep(0.02)
        assert httpx.get(f"{running.url}/readyz").status_code == 503
        assert httpx.get(f"{running.url}/healthz").status_code == 200
        time.sleep(ONE_SIGNAL_S)
        running.terminate()
        assert running.popen.wait(WAIT_S) == 1


def test_a_signal_that_comes_twice_is_one(bundle_folder: Path, tmp_path: Path) -> None:
    """An accepted upload is still answered, here for being too slow."""
    log = tmp_path / "log"
    with service_process(bundle_folder, log, body_timeout_s=0.5) as running, connect(running) as connection:
        connection.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        while "anomoe_in_flight 2.0" not in httpx.get(f"{running.url}/metrics").text:
            time.sleep(0.02)
        running.terminate()
        running.terminate()
        assert until_closed(connection).startswith(b"HTTP/1.1 408 ")
        assert running.popen.wait(WAIT_S) == 0
    assert "Traceback" not in log.read_text()


def test_what_is_not_drained_in_time_is_an_error(bundle_folder: Path, tmp_path: Path) -> None:
    with service_process(bundle_folder, tmp_path / "log", drain_s=0.2) as running, held_upload(running):
        running.terminate()
        assert running.popen.wait(WAIT_S) == 1
    assert '"dropped": 1' in (tmp_path / "log").read_text()


def test_no_time_to_drain_is_enough_when_nothing_was_accepted(bundle_folder: Path, tmp_path: Path) -> None:
    with service_process(bundle_folder, tmp_path / "log", drain_s=0) as running:
        running.terminate()
        assert running.popen.wait(WAIT_S) == 0
    assert "not drained" not in running.log.read_text()


def test_connections_that_cannot_be_accepted_are_told_once_a_second(
    bundle_folder: Path, tmp_path: Path
) -> None:
    with service_process(bundle_folder, tmp_path / "log") as running:
        opened = len(list(Path(f"/proc/{running.popen.pid}/fd").iterdir()))
        resource.prlimit(running.popen.pid, resource.RLIMIT_NOFILE, (opened + 4, opened + 4))
        with ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(connect(running))
            while "connections have to wait" not in running.log.read_text():
                time.sleep(0.02)
            time.sleep(1.2)  # they are tried again every second
        assert httpx.get(f"{running.url}/readyz", timeout=WAIT_S).status_code == 200
    assert 2 <= running.log.read_text().count("connections have to wait") <= 5
    assert "Traceback" not in running.log.read_text()


def test_a_stage_that_is_lost_ends_the_process_with_code_1(bundle_folder: Path, tmp_path: Path) -> None:
    """Nearly every call counts as hung, in new threads too."""
    with service_process(bundle_folder, tmp_path / "log", watchdog_s=1e-6) as running:
        latest = time.monotonic() + WAIT_S
        while running.popen.poll() is None and time.monotonic() < latest:
            with suppress(httpx.TransportError):
                httpx.post(f"{running.url}/detect", content=NORMAL, headers=PNG)
        assert running.popen.poll() == 1
    assert "giving up" in (tmp_path / "log").read_text()


def test_an_unreadable_file_of_keys_stops_the_start(bundle_folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)exit code 1.*api_keys_file.*cannot be read"),
        service_process(bundle_folder, tmp_path / "log", api_keys_file=tmp_path / "missing"),
    ):
        pass


def test_connections_send_what_they_have_at_once_and_hold_a_picture() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2**18
