"""Pictures on disk that the command is asked about."""

from pathlib import Path

import pytest

from tests.tiny_bundle import plain_picture, spotted_picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a normal and an anomalous picture, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    plain_picture("brick").save(folder / "good.png")
    spotted_picture("brick").save(folder / "sub" / "bad.bmp")
    (folder / "notes.txt").write_text("not a picture")
    return folder
