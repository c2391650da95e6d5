"""Reloads and stops under load: what was accepted must be answered, and by one model as a whole."""

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from time import perf_counter, sleep

from benchmarks.load import LOST, Load
from benchmarks.processes import PICTURE, ROOT, end_load, service, start_load
from export.contract.bundle import CATEGORIES, Bundle, write_bundle
from service.api_keys import add_key, make_key

CLIENTS = 4


def reload_figures(count: int, folder: Path) -> dict[str, float]:
    """Exchange the bundle `count` times while clients ask."""
    key, entry = make_key("bench", "admin")
    keys, bundles = folder / "keys.txt", folder / "bundles"
    add_key(keys, entry)
    versions = [
        _copy(ROOT / "bundles" / "demo", folder / f"version-{number}", str(number)) for number in (1, 2)
    ]
    _exchange(versions[0], bundles / "demo")
    with service(folder / "reload.log", bundles=bundles, api_keys_file=keys, log_level="info") as served:
        url = f"{served.url}/detect"
        calm = end_load(start_load(url, PICTURE, clients=CLIENTS, seconds=5, key=key))
        load = start_load(url, PICTURE, clients=CLIENTS, seconds=5 + 0.6 * count, key=key)
        sleep(0.5)
        refused, began = 0, perf_counter()
        for number in range(count):
            _exchange(versions[(number + 1) % 2], bundles / "demo")
            refused += not _reload(served.url, key)
        seconds = perf_counter() - began
        busy = end_load(load)
    return {
        "reloads": count,
        "seconds_each": seconds / count,
        "reloads_refused": refused,
        "requests": len(busy.statuses),
        "requests_not_200": len(busy.statuses) - busy.statuses.count(200),
        "p99_calm_ms": _p99_ms(calm),
        "p99_ms": _p99_ms(busy),
        "p99_ratio": _p99_ms(busy) / _p99_ms(calm),
    }


def stop_figures(count: int, folder: Path) -> dict[str, float]:
    """Send SIGTERM under load `count` times."""
    codes: list[int] = []
    lost = answered = logged = 0
    seconds: list[float] = []
    for number in range(count):
        log = folder / f"stop-{number}.log"
        with service(log, log_level="info") as served:
            load = start_load(f"{served.url}/detect", PICTURE, clients=CLIENTS, seconds=2)
            sleep(1.2)
            began = perf_counter()
            codes.append(served.stop())
            seconds.append(perf_counter() - began)
            result = end_load(load)
        answered += result.statuses.count(200)
        logged += log.read_text().count('"status": 200, "ms"') - log.read_text().count("/readyz")
        lost += log.read_text().count('"status": 499')
    return {
        "stops": count,
        "exit_code_not_0": sum(code != 0 for code in codes),
        "accepted_and_lost": lost + logged - answered,
        "longest_s": max(seconds),
    }


def _copy(source: Path, folder: Path, version: str) -> Path:
    """A bundle like another, of another version."""
    bundle = Bundle.read(source)
    files = {path: bundle.file_bytes(path) for path in bundle.manifest.files if path != CATEGORIES}
    manifest = bundle.manifest.model_copy(update={"version": version})
    write_bundle(folder, manifest, files, bundle.categories.values())
    return folder


def _exchange(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)


def _reload(url: str, key: str) -> bool:
    request = urllib.request.Request(f"{url}/models/reload", headers={"X-API-Key": key}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


def _p99_ms(load: Load) -> float:
    durations = sorted(
        took for took, status in zip(load.durations, load.statuses, strict=True) if status != LOST
    )
    return durations[int(0.99 * len(durations))] * 1000
