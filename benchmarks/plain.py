"""What the service is compared with: plain FastAPI on the same engine, and the same work without HTTP.

python -m benchmarks.plain serve PORT      one request, one thread, no batching, no limits
python -m benchmarks.plain pipeline SECONDS    prints the best pictures per second of 1 to 4 threads
"""

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from export.contract.bundle import Bundle
from service.answer import draw
from service.decide import decide
from service.engine import Engine, Outcome, Picture
from service.image import open_picture
from service.schemas import DetectParameters

PARAMETERS = DetectParameters()
MAX_PIXELS = 100_000_000


def answerer(bundle_folder: Path) -> Callable[[bytes], dict[str, object]]:
    """From an encoded picture to an answer, with the service's own steps and no more."""
    bundle = Bundle.read(bundle_folder)
    engine = Engine(bundle)
    engine.warm_up()
    spec, alpha = bundle.manifest.input, bundle.manifest.calibration.alpha

    def answer(data: bytes) -> dict[str, object]:
        opened = open_picture(data, spec, MAX_PIXELS, keep_image=False)
        (outcome,) = engine.run([Picture(opened.pixels)])
        assert isinstance(outcome, Outcome)
        decision = decide(outcome, alpha)
        anomaly_map, regions = draw(opened, outcome, decision, PARAMETERS, spec)
        assert anomaly_map is not None
        return {
            "score": decision.score,
            "is_anomalous": decision.is_anomalous,
            "regions": [region.model_dump() for region in regions],
            "map": anomaly_map.data,
        }

    return answer


def plain_app(answer: Callable[[bytes], dict[str, object]]) -> FastAPI:
    """FastAPI as its tutorial has it."""
    app = FastAPI()

    @app.post("/detect")
    async def detect(request: Request) -> dict[str, object]:
        return await run_in_threadpool(answer, await request.body())

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {"status": "ready"}

    return app


def pictures_per_second(
    answer: Callable[[bytes], object], data: bytes, threads: int, seconds: float
) -> float:
    """How many pictures so many threads answer."""
    start = perf_counter()

    def work() -> int:
        done = 0
        while perf_counter() < start + seconds:
            json.dumps(answer(data))
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(future.result() for future in [pool.submit(work) for _ in range(threads)])
    return done / (perf_counter() - start)


def main() -> None:
    """Serve, or measure the pipeline."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("serve", "pipeline"))
    parser.add_argument("number", type=float)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--picture", type=Path, default=Path("docs/board.png"))
    options = parser.parse_args()
    answer = answerer(options.bundle)
    if options.what == "serve":
        uvicorn.run(plain_app(answer), port=int(options.number), log_level="error")
        return
    data = options.picture.read_bytes()
    rates = {n: pictures_per_second(answer, data, n, options.number / 4) for n in (1, 2, 3, 4)}
    json.dump(rates, sys.stdout)


if __name__ == "__main__":
    main()
