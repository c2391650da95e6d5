"""The tiny zero-shot bundle, services over it, and pictures for it."""

from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.service.conftest import ServiceFactory
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle

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
