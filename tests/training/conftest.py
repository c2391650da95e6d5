"""One real run, shared by every test that needs one."""

from pathlib import Path
from typing import NamedTuple

import pytest

from export.contract.category import Category
from tests.training.tiny_run import quiet_progress, tiny_config, write_data
from training.fit import fit


class Fitted(NamedTuple):
    """The data, the folder of the run, and what `fit` returned."""

    data: Path
    folder: Path
    categories: dict[str, Category]


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A run of a few steps on the tiny pictures."""
    root = tmp_path_factory.mktemp("fitted")
    data, folder = write_data(root / "data"), root / "run"
    return Fitted(data, folder, fit(data, folder, tiny_config(), None, quiet_progress()))
