"""What the inspector takes: python -m benchmarks.page, with Debian's chromium.

First paint in a browser; and start, memory and pictures a second of the service with the page, which nobody
asks for, as shares of those without its routes.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from fastapi import APIRouter

from benchmarks.processes import BUSY_CLIENTS, picture_target, service
from service.api import page
from service.cli.commands import app

ROUNDS = 7
LOADS = 15
CHROMIUM = "/usr/bin/chromium"
PAINT = """() => new Promise((done) =>
  new PerformanceObserver((list) =>
    list.getEntriesByName("first-contentful-paint").forEach((entry) => done(entry.startTime))
  ).observe({ type: "paint", buffered: true }))"""
WITH, WITHOUT = "service.cli", "benchmarks.page"


def first_paints_ms(folder: Path) -> list[float]:
    """Of one load after another, each with an empty cache."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 (no part of the starts below)

    paints: list[float] = []
    with service(folder / "paint.log") as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(LOADS):
            context = browser.new_context()
            tab = context.new_page()
            tab.goto(served.url)
            paints.append(tab.evaluate(PAINT))
            context.close()
        browser.close()
    return paints


def costs(module: str, folder: Path) -> tuple[float, float, float]:
    """Seconds of a start, MiB and pictures a second of a service by a module."""
    began = perf_counter()
    with service(folder / "cost.log", module) as served:
        start_s = perf_counter() - began
        load = picture_target(served).put_load(clients=BUSY_CLIENTS, seconds=4)
        return start_s, served.memory_mib(), load.rate()


def main() -> None:
    """Print both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paints = first_paints_ms(folder)
        pairs = [(costs(WITH, folder), costs(WITHOUT, folder)) for _ in range(ROUNDS)]
    print(f"first paint: median {median(paints):.0f} ms, {min(paints):.0f} to {max(paints):.0f}")
    for place, what in enumerate(("start", "memory", "pictures a second")):
        ratios = [one[place] / other[place] for one, other in pairs]
        print(f"{what}: {median(ratios):.3f} of that without ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        page.router, page.PATHS = APIRouter(), ()
        app()
    main()
