"""Auxiliary pictures, shared by every test that trains."""

from pathlib import Path

import pytest

from tests.training.tiny_run import write_data


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and damaged pictures of two classes."""
    return write_data(tmp_path_factory.mktemp("auxiliary") / "data")
