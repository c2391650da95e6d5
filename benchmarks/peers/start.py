"""Other serving frameworks under the same load: where they are installed, how they are started and asked.

Each has a virtual environment of its own, as they cannot be installed together: .venv-bench/NAME, or NAME in
the folder that PEERS_VENVS names. `make bench-peers` makes them.
"""

import json
import os
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.processes import ROOT, Served, Target, free_port, running

VENVS = Path(os.environ.get("PEERS_VENVS", ROOT / ".venv-bench"))
BENTOML_SERVICE = "benchmarks.peers.bentoml_server:Detector"
ENVIRONMENT = {"BENTOML_DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Peer:
    """A framework: how its adapter is started (`{port}` is filled in), asked and understood."""

    name: str
    arguments: tuple[str, ...]
    path: str
    ready: str
    content_type: str = "image/png"
    body: Callable[[bytes], bytes] = bytes
    read: Callable[[bytes], dict[str, Any]] = json.loads

    def missing(self, venvs: Path = VENVS) -> str | None:
        """Why it cannot be started, or None."""
        python = venvs / self.name / "bin" / "python"
        if not python.exists():
            return f"not installed: there is no {python}; `make bench-peers` installs it"
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({self.name!r}) is None)"
        if subprocess.run([python, "-c", code], check=False).returncode:
            return f"not installed in {venvs / self.name}; `make bench-peers` installs it"
        return None


@dataclass(frozen=True)
class PeerTarget(Target):
    """A peer that is stopped while no load is put on it, so that an idle one costs the others nothing."""

    served: Served

    def put_load(self, **options: object) -> Load:
        """Put load there until it is over."""
        self.served.signal_all(signal.SIGCONT)
        try:
            return super().put_load(**options)
        finally:
            self.served.signal_all(signal.SIGSTOP)


def to_inference_request(picture: bytes) -> bytes:
    """A picture as the open inference protocol has it."""
    image = {
        "name": "image",
        "shape": [1, 1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [b64encode(picture).decode()],
    }
    return json.dumps({"inputs": [image]}).encode()


def from_inference_response(answer: bytes) -> dict[str, Any]:
    """The answer within one of the open inference protocol."""
    return json.loads(json.loads(answer)["outputs"][0]["data"][0])


PEERS = (
    Peer("litserve", ("-m", "benchmarks.peers.litserve_server", "{port}"), "/predict", "/health"),
    Peer(
        "bentoml",
        ("-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", "{port}", BENTOML_SERVICE),
        "/detect",
        "/readyz",
    ),
    Peer(
        "mlserver",
        ("-m", "benchmarks.peers.mlserver_server", "{port}"),
        "/v2/models/detect/infer",
        "/v2/health/ready",
        "application/json",
        to_inference_request,
        from_inference_response,
    ),
)


def start(
    stack: ExitStack, picture: Path, folder: Path, venvs: Path = VENVS, peers: Sequence[Peer] = PEERS
) -> tuple[dict[str, PeerTarget], dict[str, str]]:
    """Start peers, to be asked with one picture: those that then run, and why the others do not."""
    targets: dict[str, PeerTarget] = {}
    reasons: dict[str, str] = {}
    for peer in peers:
        reason = peer.missing(venvs)
        if reason is None:
            try:
                targets[peer.name] = stack.enter_context(_started(peer, picture, folder, venvs))
                continue
            except RuntimeError as error:
                end = (folder / f"{peer.name}.log").read_text().strip().splitlines()[-5:]
                reason = " / ".join([f"did not start: {error}. Its log ends", *end])
        reasons[peer.name] = reason
        print(f"{peer.name}: {reason}", file=sys.stderr, flush=True)
    return targets, reasons


@contextmanager
def _started(peer: Peer, picture: Path, folder: Path, venvs: Path) -> Generator[PeerTarget, None, None]:
    port, body = free_port(), folder / f"{peer.name}.body"
    body.write_bytes(peer.body(picture.read_bytes()))
    command = [
        str(venvs / peer.name / "bin" / "python"),
        *(part.format(port=port) for part in peer.arguments),
    ]
    served = Served(command, port, ENVIRONMENT, folder / f"{peer.name}.log")
    with running(served, peer.ready):
        served.signal_all(signal.SIGSTOP)
        yield PeerTarget(f"{served.url}{peer.path}", body, peer.content_type, served)
