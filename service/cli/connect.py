"""The options that say who answers, and a client of that: a running service, or a bundle in this process."""

import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from httpx2 import ASGITransport

from anomoe_client import AsyncClient, ClientError
from export.contract.bundle import BundleError
from service.cli.usage import fail, read_settings
from service.inference.backends.base import GraphError

LOCAL = "http://127.0.0.1:8000"
URL_VARIABLE = "ANOMOE_URL"
KEY_VARIABLE, KEY_FILE_VARIABLE = "ANOMOE_KEY", "ANOMOE_KEY_FILE"

Url = Annotated[str | None, typer.Option(help=f"Address of the service; else {URL_VARIABLE}, else {LOCAL}.")]
BundleFolder = Annotated[
    str | None, typer.Option("--bundle", help="Bundle folder to judge with, instead of a running service.")
]
Key = Annotated[str | None, typer.Option(help=f"API key; else {KEY_VARIABLE} of the environment.")]
KeyFile = Annotated[
    Path | None, typer.Option(help=f"File with the key alone; else {KEY_FILE_VARIABLE} of the environment.")
]
Connected = AbstractAsyncContextManager[AsyncClient]


def connect(
    url: str | None, bundle: str | None, key: str | None, key_file: Path | None, *, retry_s: float = 60.0
) -> Connected:
    """A client with the key that is given, else with the one that the environment names, else without.

    Raises: typer.Exit (code 1, with a reason), typer.BadParameter when options exclude each other.
    """
    if bundle is None:
        try:
            address = os.environ.get(URL_VARIABLE) or LOCAL if url is None else url
            return AsyncClient(address, key=find_key(key, key_file), retry_s=retry_s)
        except ClientError as error:
            fail(str(error))
    if not (url is None and key is None and key_file is None):
        raise typer.BadParameter("a bundle and a service (url, key) are given, one of them is expected")
    return _in_this_process(bundle, retry_s)


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


def _in_this_process(bundle: str, retry_s: float) -> Connected:
    """A client of the service itself over one bundle, open to all, since nobody else reaches it."""
    from service.app import create_app  # noqa: PLC0415 (the client must start without the compute stack)
    from service.logging import configure_logging  # noqa: PLC0415
    from service.metrics import Metrics  # noqa: PLC0415
    from service.models.loading import load_models  # noqa: PLC0415

    alone = {"api_keys_file": None, "require_keys": False, "deadline_ms": 0, "root_path": ""}
    settings = read_settings({"bundles": bundle, **alone})
    configure_logging("error")
    metrics = Metrics()
    try:
        app = create_app(settings, load_models(settings, metrics), metrics)
    except (BundleError, GraphError, OSError) as error:
        fail(str(error))

    @asynccontextmanager
    async def running() -> AsyncGenerator[AsyncClient, None]:
        client = AsyncClient("http://this-process", retry_s=retry_s, transport=ASGITransport(app))
        async with app.router.lifespan_context(app), client:
            yield client

    return running()
