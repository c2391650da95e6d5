import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.training.anomalymoe.tiny import (
    GRID,
    STUDENT,
    WIDTH,
    pictures,
    record_outputs,
    tiny_model,
    vit_config,
)
from training.anomalymoe.model.config import GlobalConfig
from training.anomalymoe.model.global_ import GlobalExpert, conv_network
from training.anomalymoe.presets import OFFICIAL_AUTOENCODER, OFFICIAL_STUDENT, compact_autoencoder

PREFIX = 3


def expert(**changes: object) -> GlobalExpert:
    torch.manual_seed(0)
    settings = {"autoencoder": compact_autoencoder(32, code=8)} | changes
    return GlobalExpert(WIDTH, GRID, PREFIX, GlobalConfig.model_validate(settings)).eval()


def features() -> Tensor:
    return torch.randn(2, PREFIX + 16, WIDTH, generator=torch.Generator().manual_seed(3))


def test_error_is_the_squared_distance_to_the_features():
    built, given = expert(), features()
    output = built(pictures(2), given)
    rebuilt = built.autoencoder(pictures(2))
    target = given[:, PREFIX:].reshape(2, 4, 4, WIDTH).permute(0, 3, 1, 2)
    expected = (rebuilt - target).square().mean(1)
    torch.testing.assert_close(output.error, expected)
    torch.testing.assert_close(output.loss, expected.mean((1, 2)))


def test_student_scores_by_its_distance_to_the_autoencoder():
    built = expert(student=STUDENT, scoring="student")
    assert built.student is not None
    output = built(pictures(2), features())
    student_error = (built.autoencoder(pictures(2)) - built.student(pictures(2))).square().mean(1)
    torch.testing.assert_close(output.error, student_error)
    target_loss = expert(student=STUDENT)(pictures(2), features())
    torch.testing.assert_close(output.loss, target_loss.loss)
    assert not torch.allclose(output.error, target_loss.error)


def test_student_follows_the_autoencoder_and_never_leads_it():
    alone, with_student = expert(), expert(student=STUDENT)
    with_student.autoencoder.load_state_dict(alone.autoencoder.state_dict())
    for built in (alone, with_student):
        built(pictures(2), features()).loss.sum().backward()
    pairs = zip(alone.autoencoder.parameters(), with_student.autoencoder.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs if a.grad is not None and b.grad is not None)
    assert with_student.student is not None
    assert all(p.grad is not None and p.grad.any() for p in with_student.student.parameters())


@pytest.mark.parametrize("side", [32, 64, 192])
def test_compact_autoencoder_passes_a_single_pixel_code(side):
    network = conv_network(compact_autoencoder(side), 96, (side // 8, side // 8))
    outputs = record_outputs(network)
    assert network(torch.zeros(1, 3, side, side)).shape == (1, 96, side // 8, side // 8)
    assert (1, 1) in {tuple(output.shape[2:]) for output in outputs}


def test_compact_autoencoder_is_small():
    network = conv_network(compact_autoencoder(192), 96, (24, 24))
    assert 80_000 < sum(parameter.numel() for parameter in network.parameters()) < 120_000


def test_official_networks_end_on_the_grid():
    with torch.device("meta"):
        image = torch.zeros(1, 3, 392, 392)
        for stages in (OFFICIAL_AUTOENCODER, OFFICIAL_STUDENT):
            assert conv_network(stages, 768, (28, 28))(image).shape == (1, 768, 28, 28)


def test_a_picture_too_small_for_a_network_is_refused() -> None:
    small = vit_config(image_size=(256, 256), position_grid=3)
    settings = GlobalConfig(count=1, autoencoder=OFFICIAL_AUTOENCODER)
    with pytest.raises(
        ValueError, match=r"global_\.autoencoder: stage 5 gets 4 x 4 of a picture of 256 x 256, too small"
    ):
        tiny_model(vit=small, global_=settings)


def test_a_network_that_ends_off_the_grid_is_refused() -> None:
    settings = GlobalConfig(count=1, autoencoder=compact_autoencoder(32), student=OFFICIAL_STUDENT[:1])
    with pytest.raises(
        ValueError, match=r"global_\.student: must end on the patch grid \(4, 4\), got \(16, 16\)"
    ):
        tiny_model(global_=settings)


def test_student_scoring_without_a_student_is_refused():
    with pytest.raises(ValidationError, match="scoring 'student' needs a student network"):
        GlobalConfig(autoencoder=compact_autoencoder(32), scoring="student")


def test_pictures_too_small_for_the_compact_autoencoder_are_refused():
    with pytest.raises(ValueError, match="image_size must be at least 16 pixels, got 8"):
        compact_autoencoder(8)
