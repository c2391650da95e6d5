"""The peers of the benchmark: skipped with a reason, or answering as the service's own steps do."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from base64 import b64decode
from contextlib import ExitStack
from pathlib import Path
from time import sleep

import pytest

from benchmarks.peers.overload import failures_of_eight
from benchmarks.peers.start import PEERS, Peer, from_inference_response, start, to_inference_request
from benchmarks.processes import PICTURE, family, picture_target, plain
from benchmarks.steps import Steps

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]


def environment(venvs: Path, name: str) -> None:
    """A virtual environment in which only what is here is installed."""
    python = venvs / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)


def test_a_peer_without_an_environment_is_skipped_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        targets, reasons = start(stack, PICTURE, tmp_path, venvs=tmp_path)
    assert targets == {}
    assert set(reasons) == {"litserve", "bentoml", "mlserver"}
    assert "make bench-peers" in reasons["bentoml"]
    assert f"mlserver: {reasons['mlserver']}" in capsys.readouterr().err


def test_a_peer_whose_package_is_not_installed_is_skipped_with_its_reason(tmp_path: Path) -> None:
    environment(tmp_path, "no_such_peer")
    peer = Peer("no_such_peer", ("-c", "pass"), "/", "/")
    assert f"not installed in {tmp_path / 'no_such_peer'}" in (peer.missing(tmp_path) or "")


def test_a_peer_that_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    environment(tmp_path, "json")
    peer = Peer("json", ("-c", "raise SystemExit('no port {port} today')"), "/", "/")
    assert peer.missing(tmp_path) is None
    with ExitStack() as stack:
        targets, reasons = start(stack, PICTURE, tmp_path, venvs=tmp_path, peers=(peer,))
    assert targets == {}
    assert "did not start: the server ended with code 1" in reasons["json"]
    assert "today" in reasons["json"]


def test_a_peer_stands_still_but_for_its_load_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    environment(tmp_path, "http")
    peer = Peer("http", ("-m", "http.server", "--bind", "127.0.0.1", "{port}"), "/", "/")
    with ExitStack() as stack:
        targets, _ = start(stack, PICTURE, tmp_path, venvs=tmp_path, peers=(peer,))
        pid = targets["http"].served.process.pid
        assert stands_still(pid)
        load = targets["http"].put_load(seconds=0.2)
        assert set(load.statuses) == {501}  # this server knows no POST
        assert stands_still(pid)
        assert targets["http"].served.memory_mib() > 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def stands_still(pid: int) -> bool:
    """Whether a process is stopped by a signal, which may take a moment."""
    for _ in range(200):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        sleep(0.02)
    return False


def test_processes_that_a_server_has_started_are_its_family() -> None:
    command = ["sh", "-c", "sh -c 'sleep 60; true' & echo started; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        while len(members := family(process.pid)) < 3:
            assert process.poll() is None
        for pid in members:
            os.kill(pid, signal.SIGKILL)
    assert members[0] == process.pid
    assert process.returncode == -signal.SIGKILL


def test_one_bad_picture_of_eight_fails_alone_where_nothing_is_batched(tmp_path: Path) -> None:
    with plain(tmp_path / "log") as served:
        assert failures_of_eight(picture_target(served), PICTURE.read_bytes()[:-1000]) == 1


def test_the_body_of_the_open_inference_protocol_holds_the_picture() -> None:
    (image,) = json.loads(to_inference_request(b"picture"))["inputs"]
    assert b64decode(image["data"][0]) == b"picture"
    assert from_inference_response(b'{"outputs": [{"data": ["{\\"score\\": 0.5}"]}]}') == {"score": 0.5}


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_answers_as_the_steps_do(peer: Peer, tmp_path: Path) -> None:
    if reason := peer.missing():
        pytest.skip(f"{peer.name}: {reason}")
    expected = Steps(ROOT / "bundles" / "demo").answer(PICTURE.read_bytes())
    with ExitStack() as stack:
        targets, reasons = start(stack, PICTURE, tmp_path, peers=(peer,))
        assert reasons == {}
        target = targets[peer.name]
        target.served.signal_all(signal.SIGCONT)
        headers = {"Content-Type": target.content_type}
        request = urllib.request.Request(target.url, target.body.read_bytes(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = peer.read(answer.read())
    assert found.pop("score") == pytest.approx(expected.pop("score"), abs=1e-5)
    assert found == expected
