"""The `anomoe` command: serve bundles, or ask a running service about pictures."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from export.contract.bundle import BundleError
from service.api_keys import ROLES, KeyFileError, add_key, make_key
from service.cli.ask import KEY_FILE_VARIABLE, KEY_VARIABLE, ask_all, connect, fail
from service.cli.picture_files import STDIN
from service.cli.report import JsonReport, detect_table, zero_shot_table
from service.inference.backends.base import GraphError
from service.schemas.detect import DetectParameters
from service.schemas.zero_shot import ZeroShotParameters
from service.settings import ENV_FILE, PREFIX, Settings, describe_settings, read_env_file

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
  grab-frame | anomoe detect - --key-file key.txt
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
TUNE_HELP = """Measure which batches and how many threads are best here, for later starts of `anomoe serve`.

\b
Examples:
  anomoe tune
  anomoe tune bundles/demo --seconds 120

Best on a machine that does nothing else. A start by a plain rule is rarely slower; what is measured here is
used with the same graphs, ONNX Runtime, processor, cores, ANOMOE_DEVICE and ANOMOE_THREADS, from the next
start on. It lies in ANOMOE_STATE_DIR.
"""
ZERO_SHOT_HELP = """Ask a running service about pictures of things it was not trained on, by name.

\b
Examples:
  anomoe zero-shot part.png --class-name bottle
  anomoe zero-shot pictures/ --class-name bottle --class-name "metal nut" --save-maps maps
  anomoe zero-shot scan.png --class-name brain --domain medical --threshold 0.6 --json
"""

LOCAL = "http://127.0.0.1:8000"


def _existing(paths: list[Path]) -> list[Path]:
    for path in paths:
        if path != STDIN and not os.path.exists(path):  # noqa: PTH110 (false where a folder is closed to us)
            raise typer.BadParameter(f"{str(path)!r} does not exist")
    return paths


# One that cannot be read leaves the others: it is told when its turn comes.
Paths = Annotated[
    list[Path],
    typer.Argument(callback=_existing, readable=False, help="Pictures and folders of them; - is stdin."),
]
Url = Annotated[str, typer.Option(help="Address of the service.")]
Key = Annotated[str | None, typer.Option(help=f"API key; else {KEY_VARIABLE} of the environment.")]
KeyFile = Annotated[
    Path | None, typer.Option(help=f"File with the key alone; else {KEY_FILE_VARIABLE} of the environment.")
]
SaveMaps = Annotated[
    Path | None, typer.Option(help="Folder for the anomaly maps, PICTURE.map.png each; files in it stay.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per picture.")]
Checked = TypeVar("Checked", bound=BaseModel)

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
    from service.run import run  # noqa: PLC0415 (the client must start without the compute stack)

    folders = json.dumps(bundles) if bundles and len(bundles) > 1 else "".join(bundles or [])
    options = {"host": host, "port": port, "bundles": folders or None}
    settings = read_settings({name: value for name, value in options.items() if value is not None})
    try:
        code = run(settings)
    except (BundleError, GraphError, KeyFileError, OSError) as error:
        fail(str(error))
    if code:
        fail("ended before every accepted request was answered, the log has more")


@app.command(help=TUNE_HELP)
def tune(
    bundles: Annotated[list[str] | None, typer.Argument(help="Bundle folders, or folders of them.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long to measure each bundle.")] = None,
) -> None:
    """Print one line per bundle, and store its plan."""
    from service.cli.tune import tune_bundles  # noqa: PLC0415 (as above)

    options = {"bundles": ",".join(bundles) if bundles else None, "tune_s": seconds}
    settings = read_settings({name: value for name, value in options.items() if value is not None})
    try:
        tune_bundles(settings)
    except (BundleError, GraphError, OSError) as error:
        fail(str(error))


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
def detect(  # noqa: PLR0913, PLR0917 (one parameter an option)
    paths: Paths,
    url: Url = LOCAL,
    key: Key = None,
    key_file: KeyFile = None,
    category: Annotated[str | None, typer.Option(help="Product; recognised when not given.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Accepted false-positive rate, 0 to 1.")] = None,
    save_maps: SaveMaps = None,
    as_json: AsJson = False,
) -> None:
    """Print one line per picture; exit code 1 when a picture got no answer."""
    parameters = checked(DetectParameters, category=category, alpha=alpha, map="png" if save_maps else "none")
    report = JsonReport() if as_json else detect_table()
    client = connect(url, key, key_file)
    ask_all(client, paths, lambda client, picture: client.detect(picture, parameters), report, save_maps)


@app.command("zero-shot", help=ZERO_SHOT_HELP)
def zero_shot(  # noqa: PLR0913 (one parameter an option)
    paths: Paths,
    *,
    class_name: Annotated[list[str], typer.Option(help="What the pictures may show; may be repeated.")],
    url: Url = LOCAL,
    key: Key = None,
    key_file: KeyFile = None,
    domain: Annotated[str, typer.Option(help="industrial or medical.")] = "industrial",
    threshold: Annotated[
        float | None, typer.Option(help="Score above which it is anomalous, 0 to 1.")
    ] = None,
    save_maps: SaveMaps = None,
    as_json: AsJson = False,
) -> None:
    """Print one line per picture; exit code 1 when a picture got no answer."""
    parameters = checked(
        ZeroShotParameters,
        class_names=class_name,
        domain=domain,
        threshold=threshold,
        map="png" if save_maps else "none",
    )
    report = JsonReport() if as_json else zero_shot_table()
    client = connect(url, key, key_file)
    ask_all(client, paths, lambda client, picture: client.zero_shot(picture, parameters), report, save_maps)


def read_settings(options: Mapping[str, object]) -> Settings:
    """Settings from options, environment and `.env`; wrong usage ends the command with code 2."""
    try:
        read_env_file()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{ENV_FILE} cannot be read: {error}")
    return checked(Settings, **options)


def checked(kind: type[Checked], **values: object) -> Checked:
    """Settings or parameters from options; wrong usage ends the command with code 2."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise typer.BadParameter(first_complaint(error)) from error


def first_complaint(error: ValidationError) -> str:
    """The first wrong field, what is wrong and the value; what is wrong with several names them itself."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    if not field:
        return first["msg"]
    variable = f" ({PREFIX}{field.upper()})" if error.title == Settings.__name__ else ""
    return f"{field}{variable}: {first['msg']}, got {first['input']!r}"
