"""Several processes: their gradients are those of one, and a run of theirs is written once."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.training.anomalymoe.tiny import pictures
from tests.training.conftest import Fitted
from tests.training.parallel_gradients import BATCH, gradients, tiny_objective
from tests.training.tiny_run import tiny_config
from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.fit import CURVES, EXPERTS_STATE
from training.anomalymoe.losses.objective import Losses
from training.distributed import gather, is_main, rank, same_everywhere, sum_gradients, world_size

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def in_two_processes(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, *(str(one) for one in arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Gradients and losses of two processes with half of the batch each."""
    path = tmp_path_factory.mktemp("parallel") / "gradients"
    done = in_two_processes("tests.training.parallel_gradients", path)
    assert done.returncode == 0, done.stderr
    return load_file(path)


def test_two_processes_have_the_gradients_and_losses_of_one(parallel: dict[str, Tensor]) -> None:
    expected, losses = gradients(tiny_objective())
    assert all(value != 0 for value in losses)
    for term in Losses._fields:
        torch.testing.assert_close(parallel[f"loss/{term}"], getattr(losses, term).detach(), msg=term)
    assert {name for name in parallel if not name.startswith("loss/")} == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(parallel[name], gradient, rtol=1e-5, atol=1e-5 * max(1.0, scale), msg=name)


def test_the_batch_has_experts_of_one_process_alone_and_of_none() -> None:
    """Else the test above would not see them."""
    model = tiny_objective().model
    chosen = model.router(model.encode(pictures(BATCH)).cls).chosen
    first, second = chosen[: BATCH // 2].any(0), chosen[BATCH // 2 :].any(0)
    for column in (0, 1):  # the pair of Eq. 4 sees all pictures
        first[column] = second[column] = True
    assert (first != second).any()
    assert not (first | second).all()


@pytest.mark.slow
def test_a_run_of_two_processes_is_written_by_the_first(fitted: Fitted, tmp_path: Path) -> None:
    config, folder = tmp_path / "config.json", tmp_path / "run"
    train = tiny_config().train.model_copy(update={"steps": 6, "accumulate": 2, "save_every": 1})
    config.write_text(tiny_config(train=train).model_dump_json())
    folder.mkdir()
    for file in fitted.folder.glob("backbone.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    done = in_two_processes(
        "training.cli", "fit", "--data", fitted.data, "--config", config, "--output", folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 categories") == 1
    assert load_checkpoint(folder).categories.keys() == fitted.categories.keys()
    assert len(list((folder / CURVES).iterdir())) == 1
    assert not (folder / EXPERTS_STATE).exists()


def test_alone_nothing_is_gathered_or_summed() -> None:
    own = torch.ones(2, requires_grad=True)
    parameter = nn.Parameter(torch.ones(2))
    sum_gradients([parameter])
    assert parameter.grad is None
    assert gather(own) is own
    assert (rank(), world_size(), is_main(), same_everywhere(3)) == (0, 1, True, True)
