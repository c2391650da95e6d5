"""Settings on disk that the training command reads."""

from pathlib import Path

import pytest

from tests.training.tiny_run import tiny_config


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """The tiny settings as a file."""
    path = tmp_path / "settings.json"
    path.write_text(tiny_config().model_dump_json())
    return path
