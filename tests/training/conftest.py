"""One real run, shared by every test that needs one."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from export.contract.category import Category
from tests.training.anomalymoe.tiny import released_layout, tiny_model
from tests.training.tiny_run import quiet_progress, tiny_config, write_data
from training.anomalymoe.fit import fit


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


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The tiny model's weights as the release writes them, with `module.` before every name."""
    state = {f"module.{name}": tensor for name, tensor in released_layout(tiny_model()).items()}
    torch.save(state, tmp_path / "r.pth")
    return tmp_path / "r.pth"
