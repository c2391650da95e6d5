"""An untrained checkpoint on disk and the bundle that the command makes of it; exporting takes a while."""

from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner, Result

from export.bundles.anomalymoe import Choice, build_bundle
from export.cli import app
from export.contract.bundle import Bundle
from export.formats.forms import Form
from tests.training.tiny_run import tiny_checkpoint, write_data
from training.anomalymoe.checkpoint import Checkpoint, save_checkpoint


class Exported(NamedTuple):
    """The checkpoint and its folder, the bundle, and what the command answered."""

    checkpoint: Checkpoint
    folder: Path
    bundle: Bundle
    answer: Result


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of both products, test pictures among them."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same checkpoint as TorchScript, which is made in a moment."""
    output = tmp_path_factory.mktemp("scripted") / "tiny"
    choice = Choice(Form("torchscript"), keep_unused=True)
    return build_bundle(tiny_checkpoint(), output, "tiny", "3", choice)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    root = tmp_path_factory.mktemp("exported")
    folder, output = root / "run", root / "bundles" / "tiny"
    checkpoint = tiny_checkpoint()
    save_checkpoint(folder, checkpoint.config, checkpoint.detector, checkpoint.categories.values(), {})
    answer = CliRunner().invoke(app, ["build", str(folder), str(output), "--version", "3", "--keep-unused"])
    assert answer.exit_code == 0, answer.output
    return Exported(checkpoint, folder, Bundle.read(output), answer)
