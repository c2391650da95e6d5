"""The `anomoe` command: serve bundles, or ask a running service about pictures."""

import os
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track

from export.contract.bundle import BundleError
from service.backends.base import GraphError
from service.client import Client, ClientError
from service.report import JsonReport, Result, TableReport
from service.schemas import DetectAnswer, DetectParameters
from service.security import ROLES, KeyFileError, add_key, make_key
from service.settings import Settings, describe_settings

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
SERVE_HELP = f"""Serve bundles over HTTP.

\b
Examples:
  anomoe serve
  anomoe serve --port 9000 --bundles bundles/demo

\b
Settings (environment or .env file; an option wins):
{describe_settings()}
"""
DETECT_HELP = """Ask a running service about pictures and folders of pictures.

\b
Examples:
  anomoe detect part.png
  anomoe detect pictures/ --category tile --alpha 0.05 --save-maps maps
  anomoe detect part.png --json
"""

KEY_HELP = """Make an API key: the key is printed once, the file keeps its hash.

\b
Examples:
  anomoe key line-7 --file keys.txt
  anomoe key operator --role admin --file keys.txt
  ANOMOE_API_KEYS_FILE=keys.txt anomoe serve

A running service reads the file again when it changes. To replace a key, add a second one of the same
name, then delete the line of the first.
"""

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Visual anomaly detection: server and client."""


@app.command(help=SERVE_HELP)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    bundles: Annotated[list[str] | None, typer.Option(help="Bundle folder; may be repeated.")] = None,
) -> None:
    """Load the bundles, warm up, then listen until stopped; what was accepted is answered first."""
    from service.app import run  # noqa: PLC0415 (the client must start without the compute stack)

    options = {"host": host, "port": port, "bundles": ",".join(bundles) if bundles else None}
    settings = read_settings({name: value for name, value in options.items() if value is not None})
    try:
        code = run(settings)
    except (BundleError, GraphError, KeyFileError, OSError) as error:
        fail(str(error))
    if code:
        fail("ended before every accepted request was answered, the log has more")


@app.command(help=KEY_HELP)
def key(
    name: Annotated[str, typer.Argument(help="Whose key it is, like line-7.")],
    role: Annotated[str, typer.Option(help="infer, or admin who may also reload bundles.")] = "infer",
    file: Annotated[Path | None, typer.Option(help="File of keys to add it to; made when not there.")] = None,
) -> None:
    """Print a new key, which cannot be shown again, and add its hash to the file."""
    if role not in ROLES:
        raise typer.BadParameter(f"role: {' or '.join(ROLES)} is expected, got {role!r}")
    try:
        secret, entry = make_key(name, role)
        if file is None:
            typer.echo(f"Add this line to the file of ANOMOE_API_KEYS_FILE: {entry.line()}", err=True)
        else:
            add_key(file, entry)
    except (KeyFileError, OSError) as error:
        fail(str(error))
    typer.echo(secret)


@app.command(help=DETECT_HELP)
def detect(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Pictures and folders of pictures.")],
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
    category: Annotated[str | None, typer.Option(help="Product; recognised when not given.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Accepted false-positive rate, 0 to 1.")] = None,
    save_maps: Annotated[Path | None, typer.Option(help="Folder for the anomaly maps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per picture.")] = False,
) -> None:
    """Print one line per picture; exit code 1 when a picture got no answer."""
    try:
        parameters = DetectParameters(category=category, alpha=alpha, map="png" if save_maps else "none")
    except ValidationError as error:
        raise typer.BadParameter(first_complaint(error)) from error
    pictures = list(find_pictures(paths))
    if not pictures:
        fail(f"no pictures in {', '.join(map(str, paths))}")
    report = JsonReport() if as_json else TableReport()
    failures: list[str] = []
    for name, result in ask(url, pictures, parameters):
        report.add(name, result)
        if isinstance(result, ClientError):
            failures.append(f"{name}: {result}")
        elif save_maps is not None:
            save_map(save_maps / f"{name}.map.png", result)
    report.end()
    if failures:
        fail(failures[0] if len(failures) == 1 else f"{failures[0]} (and {len(failures) - 1} more)")


def ask(
    url: str, pictures: list[tuple[Path, Path]], parameters: DetectParameters
) -> Iterator[tuple[Path, Result]]:
    """Each picture's name with its answer or its error, in order; shows progress on stderr."""
    with Client(url) as client:
        for path, name in track(pictures, "Asking", console=Console(stderr=True), transient=True):
            try:
                yield name, client.detect(path.read_bytes(), parameters)
            except ClientError as error:
                yield name, error
            except OSError as error:
                yield name, ClientError(f"cannot be read: {error.strerror}")


def find_pictures(paths: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Every picture with the name it is reported under: its path from the given folder on."""
    for given in paths:
        root = Path(os.path.abspath(given))  # noqa: PTH100 (without "..", but with a link's own name)
        inside = sorted(root.rglob("*")) if root.is_dir() else [root]
        for path in inside:
            if path == root or path.suffix.lower() in PICTURE_SUFFIXES:
                yield path, path.relative_to(root.parent)


def save_map(path: Path, answer: DetectAnswer) -> None:
    """Write the anomaly map of an answer, with the folders it needs."""
    if answer.anomaly_map is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b64decode(answer.anomaly_map.data))


def read_settings(options: Mapping[str, object]) -> Settings:
    """Settings from options, environment and `.env`; wrong usage ends the command with code 2."""
    try:
        return Settings.model_validate(options)
    except ValidationError as error:
        raise typer.BadParameter(first_complaint(error)) from error


def first_complaint(error: ValidationError) -> str:
    """The first wrong field, what is wrong and the value."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}"


def fail(reason: str) -> NoReturn:
    """End the command with code 1 and a one-line reason."""
    typer.echo(f"anomoe: {' '.join(reason.split())}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
