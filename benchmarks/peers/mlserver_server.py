"""MLServer, as its documentation has it: a custom runtime, open inference protocol, adaptive batching.

A worker of one thread for every core, batches of up to 4. Tried in turn on two cores with other work too:
41 to 50 pictures a second, with batches of 8 27 to 38, with none 24 to 31; in a single process 28 to 41, 17.

python -m benchmarks.peers.mlserver_server PORT
"""
# pyright: reportMissingImports=false

import asyncio
import json
import sys
from tempfile import TemporaryDirectory

import mlserver
from mlserver.codecs import Base64Codec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers.settings import BUNDLE, CORES, WAIT_S, Settings
from benchmarks.processes import free_port
from benchmarks.steps import Steps

SETTINGS = Settings.chosen(workers=CORES, max_batch=4, threads=1)


class Detector(mlserver.MLModel):
    """Pictures come and answers go as strings in JSON: the batches of this protocol know no raw bodies."""

    async def load(self) -> bool:
        """Load the engine, once in every worker."""
        self.steps = Steps(BUNDLE, SETTINGS.threads)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Decode, run and tell a batch."""
        pictures = [self.steps.decode(data) for data in Base64Codec.decode_input(payload.inputs[0])]
        outcomes = self.steps.run(pictures)
        answers = [json.dumps(self.steps.encode(*pair)) for pair in zip(pictures, outcomes, strict=True)]
        output = ResponseOutput(name="answer", shape=[len(answers), 1], datatype="BYTES", data=answers)
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve(port: int, folder: str) -> None:
    """Serve until the end; what MLServer writes goes to a folder. One worker is the server itself."""
    settings = mlserver.Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=free_port(),
        metrics_endpoint=None,
        parallel_workers=SETTINGS.workers if SETTINGS.workers > 1 else 0,
        environments_dir=f"{folder}/environments",
        metrics_dir=folder,
        debug=False,
    )
    model = mlserver.ModelSettings(
        name="detect",
        implementation=Detector,
        max_batch_size=SETTINGS.max_batch,
        max_batch_time=WAIT_S,
    )
    await mlserver.MLServer(settings).start([model])


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        asyncio.run(serve(int(sys.argv[1]), folder))
