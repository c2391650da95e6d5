"""`anomoe detect` and `anomoe zero-shot`: pictures and folders of pictures, each with its answer or error."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from anomoe_client import AnomalyMap, AsyncClient, ClientError, Picture
from service.cli.connect import BundleFolder, Connected, Key, KeyFile, Url, connect
from service.cli.picture_files import STDIN, find_pictures
from service.cli.report import (
    DETECT,
    ZERO_SHOT,
    Columns,
    CsvReport,
    JsonReport,
    Judged,
    Report,
    TableReport,
)
from service.cli.usage import checked, fail
from service.schemas.detect import DetectParameters
from service.schemas.zero_shot import ZeroShotParameters

DETECT_HELP = """Judge pictures and folders of pictures, by a running service or by a bundle.

\b
Examples:
  anomoe detect part.png
  anomoe detect pictures/ --category tile --alpha 0.05 --save-maps maps --map overlay
  anomoe detect pictures/ --bundle bundles/demo --csv > verdicts.csv
  anomoe detect part.png --json
  grab-frame | anomoe detect - --key-file key.txt
"""
ZERO_SHOT_HELP = """Judge pictures of things that no model was trained on, by name.

\b
Examples:
  anomoe zero-shot part.png --class-name bottle
  anomoe zero-shot pictures/ --class-name bottle --class-name "metal nut" --save-maps maps
  anomoe zero-shot scan.png --class-name brain --domain medical --threshold 0.6 --json
"""


def _existing(path: str) -> Path:
    if Path(path) != STDIN and not os.path.exists(path):  # noqa: PTH110 (false where a folder is closed to us)
        raise typer.BadParameter(f"{path!r} does not exist")
    return Path(path)


# One that cannot be read leaves the others: it is told when its turn comes.
Paths = Annotated[
    list[Path], typer.Argument(parser=_existing, help="Pictures and folders of them; - is stdin.")
]
SaveMaps = Annotated[
    Path | None, typer.Option(help="Folder for the anomaly maps, PICTURE.map.png each; files in it stay.")
]
MapForm = Annotated[str, typer.Option("--map", help="What is saved: png, png16, overlay or npy.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per picture.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print one line of CSV per picture.")]

Ask = Callable[[AsyncClient, Iterator[Picture]], AsyncGenerator[Judged | ClientError, None]]


@dataclass(frozen=True)
class Order:
    """Which pictures, what is asked about them, and where the answers go."""

    paths: Sequence[Path]
    ask: Ask
    report: Report
    save_maps: Path | None


def detect(  # noqa: PLR0913, PLR0917 (one parameter an option)
    paths: Paths,
    url: Url = None,
    bundle: BundleFolder = None,
    key: Key = None,
    key_file: KeyFile = None,
    category: Annotated[str | None, typer.Option(help="Product; recognised when not given.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Accepted false-positive rate, 0 to 1.")] = None,
    save_maps: SaveMaps = None,
    map_form: MapForm = "png",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Print one line per picture; exit code 1 when a picture got no answer."""
    map_form = map_form if save_maps else "none"
    parameters = checked(DetectParameters, category=category, alpha=alpha, map=map_form)
    query = parameters.model_dump(exclude_none=True)
    report = _report(DETECT, as_json=as_json, as_csv=as_csv)
    order = Order(paths, lambda client, pictures: client.detect_many(pictures, **query), report, save_maps)
    judge_all(order, connect(url, bundle, key, key_file))


def zero_shot(  # noqa: PLR0913 (one parameter an option)
    paths: Paths,
    *,
    class_name: Annotated[list[str], typer.Option(help="What the pictures may show; may be repeated.")],
    url: Url = None,
    bundle: BundleFolder = None,
    key: Key = None,
    key_file: KeyFile = None,
    domain: Annotated[str, typer.Option(help="industrial or medical.")] = "industrial",
    threshold: Annotated[
        float | None, typer.Option(help="Score above which it is anomalous, 0 to 1.")
    ] = None,
    save_maps: SaveMaps = None,
    map_form: MapForm = "png",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Print one line per picture; exit code 1 when a picture got no answer."""
    parameters = checked(
        ZeroShotParameters,
        class_names=class_name,
        domain=domain,
        threshold=threshold,
        map=map_form if save_maps else "none",
    )
    query = parameters.model_dump(exclude_none=True)
    report = _report(ZERO_SHOT, as_json=as_json, as_csv=as_csv)
    order = Order(paths, lambda client, pictures: client.zero_shot_many(pictures, **query), report, save_maps)
    judge_all(order, connect(url, bundle, key, key_file))


def judge_all(order: Order, connected: Connected) -> None:
    """Report each picture's answer or error, and save its map where a folder is given.

    Raises: typer.Exit (code 1, with a reason) when there is no picture or one got no answer.
    """
    pictures, others = find_pictures(order.paths)
    if others:
        typer.echo(f"anomoe: passed over, no pictures by name or kind: {_listed(others)}", err=True)
    if not pictures:
        fail(f"no pictures in {', '.join(map(str, order.paths))}")
    failures = asyncio.run(_judge(pictures, order, connected))
    order.report.end()
    if failures:
        fail(_listed(failures))


async def _judge(pictures: Sequence[tuple[Path, Path]], order: Order, connected: Connected) -> list[str]:
    """What went wrong with which picture; shows progress on stderr."""
    failures: list[str] = []
    names = iter([name for _, name in pictures])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        done = progress.add_task("Asking", total=len(pictures))
        async with connected as client:
            async for result in order.ask(client, _read(path for path, _ in pictures)):
                name = next(names)
                order.report.add(name, result)
                if isinstance(result, ClientError):
                    failures.append(f"{name}: {result}")
                elif order.save_maps is not None:
                    try:
                        save_map(order.save_maps / name, result.anomaly_map)
                    except OSError as error:
                        failures.append(f"{name}: the map cannot be written: {error}")
                progress.advance(done)
    return failures


def save_map(picture: Path, anomaly_map: AnomalyMap | None) -> None:
    """Write PICTURE.map.png or .npy, with the folders it needs; a file that is there stays."""
    if anomaly_map is not None:
        suffix = "npy" if anomaly_map.encoding == "npy" else "png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        with picture.with_name(f"{picture.name}.map.{suffix}").open("xb") as file:
            file.write(anomaly_map.file())


def _read(paths: Iterator[Path]) -> Iterator[Picture]:
    return (sys.stdin.buffer.read() if path == STDIN else path for path in paths)


def _report(columns: Columns, *, as_json: bool, as_csv: bool) -> Report:
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv are given, one of them is expected")
    if as_json:
        return JsonReport()
    return CsvReport(columns) if as_csv else TableReport(columns)


def _listed(several: Sequence[object]) -> str:
    """The first, and how many more there are."""
    return f"{several[0]} (and {len(several) - 1} more)" if len(several) > 1 else str(several[0])
