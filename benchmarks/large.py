"""One camera that sends large pictures without end, and what another one notices of it."""

from pathlib import Path
from statistics import median
from time import sleep

from PIL import Image

from benchmarks.load import Load
from benchmarks.processes import PICTURE, Figures, end_load, put_load, service, start_load

SIZE = (4000, 3000)
CONNECTIONS = 8


def large_figures(rounds: int, seconds: float, folder: Path) -> Figures:
    """Latency of one small picture after the other, alone and beside large ones, in turn."""
    large = folder / "large.jpg"
    Image.open(PICTURE).convert("RGB").resize(SIZE).save(large, quality=90)
    alone: list[Load] = []
    beside: list[Load] = []
    floods: list[Load] = []
    with service(folder / "large.log") as served:
        url = f"{served.url}/detect"

        def ask() -> Load:
            return put_load(url, PICTURE, client="calm", seconds=seconds / 2)

        ask()
        idle_mib = served.memory_mib()
        served.forget_peak()
        for _ in range(rounds):
            alone.append(ask())
            flood = start_load(
                url, large, type="image/jpeg", client="mad", clients=CONNECTIONS, seconds=seconds
            )
            sleep(seconds / 4)
            beside.append(ask())
            floods.append(end_load(flood))
        peak_mib = served.memory_mib("VmHWM")
    p50_alone, p50_beside = _median_ms(alone, 0.5), _median_ms(beside, 0.5)
    return {
        "megapixels": SIZE[0] * SIZE[1] / 1e6,
        "large_per_s": median(load.rate() for load in floods),
        "p50_alone_ms": p50_alone,
        "p50_beside_ms": p50_beside,
        "p99_beside_ms": _median_ms(beside, 0.99),
        "p50_ratio": p50_beside / p50_alone,
        "not_200": sum(len(load.statuses) - load.statuses.count(200) for load in beside),
        "idle_mib": idle_mib,
        "peak_mib": peak_mib,
    }


def _median_ms(loads: list[Load], share: float) -> float:
    return median(load.quantile_ms(share) for load in loads)
