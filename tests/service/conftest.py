"""A running service over the tiny bundle, and pictures as bytes."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from service.app import create_app
from service.connection.server import Server
from service.images.decode import lift_pixel_limit
from service.metrics import Metrics
from service.models.loading import load_models
from service.settings import Settings
from tests.conftest import STATE
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle

# The default traceback renders every local variable, which takes seconds.
structlog.configure(
    [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)],
    logger_factory=structlog.stdlib.LoggerFactory(),
)

ServiceFactory = Callable[..., TestClient]


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are the same on every machine: one batch after the other."""
    monkeypatch.setattr("service.tuning.search.usable_cores", lambda: 1)


def settings_for(bundles: Path | str, /, **settings: object) -> Settings:
    """Settings of a small service that starts at once."""
    state = str(Path(STATE.name) / uuid4().hex)  # what one service keeps is not for the next
    quick = {"bundles": str(bundles), "device": "cpu", "threads": 1, "state_dir": state}
    return Settings.model_validate({**quick, **settings})


@pytest.fixture(scope="session", autouse=True)
def _pictures_of_any_size() -> None:
    lift_pixel_limit()


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, written once."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def start_service(bundle_folder: Path) -> Iterator[ServiceFactory]:
    """Start a service with given settings; it stops at the end of the test."""
    with ExitStack() as stack:

        def start(**settings: object) -> TestClient:
            chosen = settings_for(bundle_folder, **settings)
            metrics = Metrics()
            app = create_app(chosen, load_models(chosen, metrics), metrics)
            return stack.enter_context(TestClient(app))

        yield start


@pytest.fixture
def service(start_service: ServiceFactory) -> TestClient:
    """A service with the default settings."""
    return start_service()


@pytest.fixture(scope="session")
def service_url(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service of both kinds of model that listens on a real port."""
    zero_shot = make_tiny_zero_shot_bundle(tmp_path_factory.mktemp("bundles") / "zero-shot")
    with listening(f"{bundle_folder},{zero_shot}") as address:
        yield address


@contextmanager
def listening(bundles: Path | str, **settings: object) -> Iterator[str]:
    """The address of a service that listens on a real port while the context lasts."""
    chosen = settings_for(bundles, **settings)
    metrics = Metrics()
    app = create_app(chosen, load_models(chosen, metrics), metrics)
    server = Server(app, app.state.runtime)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Signals are for the main thread.
        thread = threading.Thread(target=asyncio.run, args=(uvicorn.Server._serve(server, [listener]),))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """The logging of the test run comes back after the test."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def encoded(image: Image.Image, picture_format: str = "PNG", **options: object) -> bytes:
    """A picture as a file."""
    file = BytesIO()
    image.save(file, picture_format, **options)
    return file.getvalue()


COLOURS = {"brick": (200, 20, 40), "slate": (40, 20, 200)}


@pytest.fixture(scope="session")
def zero_shot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny zero-shot bundle, with `slate` calibrated, written once."""
    return make_tiny_zero_shot_bundle(
        tmp_path_factory.mktemp("bundles") / "tiny-zero-shot", calibrated=("slate",)
    )


@pytest.fixture
def zero_shot_service(start_service: ServiceFactory, zero_shot_folder: Path) -> TestClient:
    """A service with the tiny zero-shot bundle alone."""
    return start_service(bundles=str(zero_shot_folder))


def picture(colour: str, *, spotted: bool = False, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """A plain picture, (width, height) = `size`, or one with a white spot left and above of its middle."""
    image = Image.new("RGB", size, COLOURS[colour])
    if spotted:
        image.paste((255, 255, 255), (size[0] // 5, size[1] // 5, size[0] * 3 // 5, size[1] * 3 // 5))
    return image
