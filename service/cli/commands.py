"""The `anomoe` command: serve bundles, or ask a running service about pictures."""

import json
from pathlib import Path
from typing import Annotated

import typer

from export.contract.bundle import BundleError
from service.api_keys import ROLES, KeyFileError, add_key, make_key
from service.cli.judge import DETECT_HELP, ZERO_SHOT_HELP, detect, zero_shot
from service.cli.usage import fail, read_settings
from service.cli.watch import WATCH_HELP, watch
from service.inference.backends.base import GraphError
from service.settings import describe_settings

SERVE_HELP = f"""Serve bundles over HTTP.

\b
Examples:
  anomoe serve
  anomoe serve --port 9000 --bundles bundles/demo

\b
Settings (environment or .env file; an option wins):
{describe_settings()}
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

    options = {"host": host, "port": port, "bundles": _as_setting(bundles)}
    settings = read_settings({name: value for name, value in options.items() if value is not None})
    try:
        code = run(settings)
    except (BundleError, GraphError, KeyFileError, OSError) as error:
        fail(str(error))
    if code:
        fail("ended before every accepted request was answered, the log has more")


def _as_setting(bundles: list[str] | None) -> str | None:
    """One folder as it is, several as a JSON list: each may have a comma."""
    if not bundles:
        return None
    return bundles[0] if len(bundles) == 1 else json.dumps(bundles)


@app.command(help=TUNE_HELP)
def tune(
    bundles: Annotated[list[str] | None, typer.Argument(help="Bundle folders, or folders of them.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long to measure each bundle.")] = None,
) -> None:
    """Print one line per bundle, and store its plan."""
    from service.cli.tune import tune_bundles  # noqa: PLC0415 (as above)

    options = {"bundles": _as_setting(bundles), "tune_s": seconds}
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


app.command(help=DETECT_HELP)(detect)
app.command("zero-shot", help=ZERO_SHOT_HELP)(zero_shot)
app.command(help=WATCH_HELP)(watch)
