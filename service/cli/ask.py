"""Pictures and folders of pictures to a running service, one by one; what the client commands share."""

import os
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import track

from service.cli.picture_files import STDIN, find_pictures
from service.cli.report import Answer, JsonReport, TableReport
from service.client import Client, ClientError
from service.schemas.common import MapAnswer

KEY_VARIABLE, KEY_FILE_VARIABLE = "ANOMOE_KEY", "ANOMOE_KEY_FILE"

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)
ZeroShotInput = Callable[[Client, bytes], AnyAnswer]


def connect(url: str, key: str | None, key_file: Path | None) -> Client:
    """A client with the key that is given, else with the one that the environment names, else without.

    Raises: typer.Exit (code 1, with a reason), typer.BadParameter when both a key and its file are given.
    """
    try:
        return Client(url, key=find_key(key, key_file))
    except ClientError as error:
        fail(str(error))


def find_key(key: str | None, key_file: Path | None) -> str | None:
    """Raises: ClientError when the file cannot be read, typer.BadParameter as `connect`."""
    if key is None and key_file is None:
        key = os.environ.get(KEY_VARIABLE) or None
        named = os.environ.get(KEY_FILE_VARIABLE)
        key_file = Path(named) if named else None
    if key_file is None:
        return key
    if key is not None:
        raise typer.BadParameter("a key and a file with it are given, one of them is expected")
    try:
        return key_file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"the key cannot be read: {error}") from error


def ask_all(
    client: Client,
    paths: Sequence[Path],
    question: ZeroShotInput[AnyAnswer],
    report: JsonReport | TableReport[AnyAnswer],
    save_maps: Path | None,
) -> None:
    """Report each picture's answer or error, and save its map where a folder is given.

    Raises: typer.Exit (code 1, with a reason) when there is no picture or one got no answer.
    """
    pictures, others = find_pictures(paths)
    if others:
        typer.echo(f"anomoe: passed over, no pictures by their names: {_listed(others)}", err=True)
    if not pictures:
        fail(f"no pictures in {', '.join(map(str, paths))}")
    failures: list[str] = []
    for name, result in _ask(client, pictures, question):
        report.add(name, result)
        if isinstance(result, ClientError):
            failures.append(f"{name}: {result}")
        elif save_maps is not None:
            try:
                save_map(save_maps / f"{name}.map.png", result.anomaly_map)
            except OSError as error:
                failures.append(f"{name}: the map cannot be written: {error}")
    report.end()
    if failures:
        fail(_listed(failures))


def save_map(path: Path, anomaly_map: MapAnswer | None) -> None:
    """Write an anomaly map that was answered, with the folders it needs; a file that is there stays."""
    if anomaly_map is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(b64decode(anomaly_map.data))


def fail(reason: str) -> NoReturn:
    """End the command with code 1 and a one-line reason."""
    typer.echo(f"anomoe: {' '.join(reason.split())}", err=True)
    raise typer.Exit(1)


def _listed(several: Sequence[object]) -> str:
    """The first, and how many more there are."""
    return f"{several[0]} (and {len(several) - 1} more)" if len(several) > 1 else str(several[0])


def _ask(
    client: Client, pictures: list[tuple[Path, Path]], question: ZeroShotInput[AnyAnswer]
) -> Iterator[tuple[Path, AnyAnswer | ClientError]]:
    """Each picture's name with its answer or its error, in order; shows progress on stderr."""
    with client:
        for path, name in track(pictures, "Asking", console=Console(stderr=True), transient=True):
            try:
                picture = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
                yield name, question(client, picture)
            except ClientError as error:
                yield name, error
            except OSError as error:
                yield name, ClientError(f"cannot be read: {error.strerror}")
