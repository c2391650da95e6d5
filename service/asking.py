"""Pictures and folders of pictures to a running service, one by one; what the client commands share."""

import os
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import track

from service.client import Client, ClientError
from service.report import Answer, JsonReport, TableReport
from service.schemas import MapAnswer

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"}

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)
Question = Callable[[Client, bytes], AnyAnswer]


def ask_all(
    url: str,
    paths: Iterable[Path],
    question: Question[AnyAnswer],
    report: JsonReport | TableReport[AnyAnswer],
    save_maps: Path | None,
) -> None:
    """Report each picture's answer or error, and save its map where a folder is given.

    Raises: typer.Exit (code 1, with a reason) when there is no picture or one got no answer.
    """
    pictures = list(find_pictures(paths))
    if not pictures:
        fail(f"no pictures in {', '.join(map(str, paths))}")
    failures: list[str] = []
    try:
        client = Client(url)
    except ClientError as error:
        fail(str(error))
    for name, result in _ask(client, pictures, question):
        report.add(name, result)
        if isinstance(result, ClientError):
            failures.append(f"{name}: {result}")
        elif save_maps is not None:
            try:
                save_map(save_maps / f"{name}.map.png", result.anomaly_map)
            except OSError as error:
                failures.append(f"{name}: the map cannot be written: {error.strerror}")
    report.end()
    if failures:
        fail(failures[0] if len(failures) == 1 else f"{failures[0]} (and {len(failures) - 1} more)")


def find_pictures(paths: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Every picture with the name it is reported under: its path from the given folder on."""
    for given in paths:
        root = Path(os.path.abspath(given))  # noqa: PTH100 (without "..", but with a link's own name)
        inside = sorted(root.rglob("*")) if root.is_dir() else [root]
        for path in inside:
            if path == root or path.suffix.lower() in PICTURE_SUFFIXES:
                yield path, path.relative_to(root.parent)


def save_map(path: Path, anomaly_map: MapAnswer | None) -> None:
    """Write an anomaly map that was answered, with the folders it needs."""
    if anomaly_map is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b64decode(anomaly_map.data))


def fail(reason: str) -> NoReturn:
    """End the command with code 1 and a one-line reason."""
    typer.echo(f"anomoe: {' '.join(reason.split())}", err=True)
    raise typer.Exit(1)


def _ask(
    client: Client, pictures: list[tuple[Path, Path]], question: Question[AnyAnswer]
) -> Iterator[tuple[Path, AnyAnswer | ClientError]]:
    """Each picture's name with its answer or its error, in order; shows progress on stderr."""
    with client:
        for path, name in track(pictures, "Asking", console=Console(stderr=True), transient=True):
            try:
                yield name, question(client, path.read_bytes())
            except ClientError as error:
                yield name, error
            except OSError as error:
                yield name, ClientError(f"cannot be read: {error.strerror}")
