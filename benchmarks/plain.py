"""What the service is compared with: plain FastAPI on the same engine, and the same work without HTTP.

python -m benchmarks.plain serve PORT      one request, one thread, no batching, no limits
python -m benchmarks.plain pipeline SECONDS    prints pictures per second, of 1 to 4 threads
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

from benchmarks.steps import Steps


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
    if options.what == "serve":
        uvicorn.run(plain_app(Steps(options.bundle).answer), port=int(options.number), log_level="error")
        return
    data = options.picture.read_bytes()
    engines = {"all cores": Steps(options.bundle), "one core": Steps(options.bundle, threads=1)}
    rates = {
        f"{pictures} at once, each on {cores}": pictures_per_second(
            steps.answer, data, pictures, options.number / 8
        )
        for pictures in (1, 2, 3, 4)
        for cores, steps in engines.items()
    }
    json.dump(rates, sys.stdout)


if __name__ == "__main__":
    main()
