"""LitServe, as its documentation has it: decode_request, predict and encode_response, in worker processes.

A worker of one thread for every core, batches of up to 4. Tried in turn on two cores with other work too:
37 to 45 pictures a second, with batches of 8 31 to 37, with none 26 to 43, with one worker 19 to 25.

python -m benchmarks.peers.litserve_server PORT
"""
# pyright: reportMissingImports=false

import sys
from typing import Annotated, Any

import litserve
from fastapi import Body

from benchmarks.peers.settings import BUNDLE, CORES, WAIT_S, Settings
from benchmarks.steps import Steps
from service.images.decode import Opened
from service.inference.anomalymoe import Outcome

SETTINGS = Settings.chosen(workers=CORES, max_batch=4, threads=1)

Decided = tuple[Opened, Outcome]


class Detector(litserve.LitAPI):
    """The body is the picture as it is, which is nearer to the service than a form or base64 in JSON."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the engine, once in every worker."""
        self.steps = Steps(BUNDLE, SETTINGS.threads)

    def decode_request(self, request: Annotated[bytes, Body()]) -> Opened:
        """Decode a picture."""
        return self.steps.decode(request)

    def predict(self, x: Any) -> list[Decided] | Decided:
        """Run a batch, or one picture when there is no batching."""
        if SETTINGS.max_batch == 1:
            return x, self.steps.run([x])[0]
        return list(zip(x, self.steps.run(x), strict=True))

    def encode_response(self, output: Decided) -> dict[str, object]:
        """Tell what was found."""
        return self.steps.encode(*output)


def main() -> None:
    """Serve on a port until the end."""
    wait_s = WAIT_S if SETTINGS.max_batch > 1 else 0.0
    api = Detector(max_batch_size=SETTINGS.max_batch, batch_timeout=wait_s)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=SETTINGS.workers)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()
