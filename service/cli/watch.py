"""`anomoe watch`: every new picture of a folder is judged and moved to `ok`, `anomaly` or `unknown`."""

import asyncio
import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from anomoe_client import ClientError
from service.cli.connect import BundleFolder, Connected, Key, KeyFile, Url, connect
from service.cli.picture_files import SUFFIXES
from service.cli.usage import checked, fail
from service.schemas.detect import DetectParameters
from service.watch.folder import WatchedFolder
from service.watch.journal import WatchError
from service.watch.watching import Watch
from service.watch.webhook import Webhook

SECRET_VARIABLE = "ANOMOE_WEBHOOK_SECRET"
WATCH_HELP = f"""Judge every new picture of a folder, and move it to ok/, anomaly/ or unknown/ in there.

\b
Examples:
  anomoe watch /data/line-3
  anomoe watch /data/line-3 --category tile --key-file key.txt
  anomoe watch /data/tonight --bundle bundles/demo --once
  {SECRET_VARIABLE}=... anomoe watch /data/line-3 --webhook http://gateway:8080/verdicts

Each picture gets one JSON line in watch.jsonl, however often the command is stopped or killed. unknown/ has
what is not the product, what is undecided and what cannot be read. Pictures that are being written are left
alone until they have not changed for a while; folders in the folder are not looked into.
"""


def watch(  # noqa: PLR0913 (one parameter an option)
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder that cameras write to.")
    ],
    *,
    url: Url = None,
    bundle: BundleFolder = None,
    key: Key = None,
    key_file: KeyFile = None,
    category: Annotated[str | None, typer.Option(help="Product; recognised when not given.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Accepted false-positive rate, 0 to 1.")] = None,
    settle_s: Annotated[
        float, typer.Option(min=0, help="Seconds for which a whole file has not changed.")
    ] = 1.0,
    webhook: Annotated[
        str | None,
        typer.Option(help=f"Address that each line is posted to, signed with {SECRET_VARIABLE}."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when no picture is left.")] = False,
) -> None:
    """Print one line per picture; exit code 1 when the service or the folder lets no picture be judged."""
    parameters = checked(DetectParameters, category=category, alpha=alpha, map="none")
    secret = os.environ.get(SECRET_VARIABLE, "")
    if webhook is not None and not secret:
        raise typer.BadParameter(f"webhook: a secret is expected in {SECRET_VARIABLE}, it is not set")
    connected = connect(url, bundle, key, key_file)
    try:
        with closing(WatchedFolder(folder, SUFFIXES, settle_s)) as watched:
            target = Webhook(webhook, secret, watched.journal, _warn) if webhook else None

            def filed(entry: dict[str, object]) -> None:
                typer.echo(f"{entry['time']} {entry['moved_to']} {entry.get('error') or ''}".rstrip())
                if target:
                    target.news.set()

            query = parameters.model_dump(exclude_none=True)
            asyncio.run(_run(Watch(watched, query, filed, _warn), connected, target, once=once))
    except (WatchError, ClientError, OSError) as error:
        fail(str(error))


async def _run(watching: Watch, connected: Connected, webhook: Webhook | None, *, once: bool) -> None:
    async with connected as client:
        judging = asyncio.ensure_future(watching.run(client, once=once))
        sending = asyncio.ensure_future(webhook.run()) if webhook else None
        both = {judging, sending} if sending else {judging}
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
            if webhook and sending:
                webhook.close()
                await sending
        finally:
            for one in both:
                one.cancel()


def _warn(reason: str) -> None:
    typer.echo(f"anomoe: {' '.join(reason.split())}", err=True)
