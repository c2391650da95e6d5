"""Pictures as industrial cameras send them, one after the other: the service and its peers."""

from contextlib import ExitStack
from pathlib import Path
from statistics import median

from PIL import Image

from benchmarks.peers.start import start
from benchmarks.processes import BUSY_CLIENTS, PICTURE, Figures, Target, service

SIZES = {"1.3 megapixels": (1280, 1024), "5 megapixels": (2448, 2048)}  # of the commonest sensors
GRAIN = 30  # of the noise, in levels: a smooth picture would have far fewer bytes
QUALITY = 90


def camera_figures(rounds: int, seconds: float, folder: Path) -> Figures:
    """Pictures a second with 16 clients, in turn, by size."""
    figures: dict[str, float | str] = {}
    for name, size in SIZES.items():
        picture = folder / "camera.jpg"
        taken(size).save(picture, quality=QUALITY)
        laps: dict[str, list[float]] = {}
        with ExitStack() as stack:
            served = stack.enter_context(service(folder / "camera.log"))
            peers, reasons = start(stack, picture, folder)
            targets: dict[str, Target] = {
                "service": Target(f"{served.url}/detect", picture, "image/jpeg"),
                **peers,
            }
            for target in targets.values():
                target.put_load(clients=BUSY_CLIENTS, seconds=1)
            for _ in range(rounds):
                for peer, target in targets.items():
                    load = target.put_load(clients=BUSY_CLIENTS, seconds=seconds)
                    laps.setdefault(peer, []).append(load.rate())
        figures[f"{name}: bytes"] = picture.stat().st_size
        figures |= {f"{name}: {peer} per_s": median(rates) for peer, rates in laps.items()}
        for peer in peers:
            ratios = [own / other for own, other in zip(laps["service"], laps[peer], strict=True)]
            figures[f"{name}: ratio_to_{peer}"] = median(ratios)
        figures |= reasons
    return figures


def taken(size: tuple[int, int]) -> Image.Image:
    """The demo's picture in a size (width, height), with a sensor's grain."""
    picture = Image.open(PICTURE).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    grain = Image.effect_noise(size, GRAIN).convert("RGB")
    return Image.blend(picture, grain, 0.1)
