"""Settings of a run: the presets hold together, and what contradicts itself is refused by name."""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from export.contract.manifest import InputSpec
from tests.training.anomalymoe.tiny import vit_config
from tests.training.tiny_run import tiny_config, vit_run_config
from training.anomalymoe.fit_config import BackboneName, DataConfig, FitConfig, TrainConfig, preset


@pytest.mark.parametrize("name", get_args(BackboneName))
def test_presets_survive_json(name: BackboneName) -> None:
    config = preset(name)
    assert config.backbone == name
    assert FitConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("encoder", {"encoder": vit_config()}),
        ("pretext", {"pretext": None}),
        ("input", {"input": InputSpec(height=48, width=56)}),
        ("crop", {"crop": 0.5}),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=field):
        tiny_config(**changes)


def test_blocks_are_shared_evenly_between_fuse_groups() -> None:
    config = vit_run_config()
    two_groups = config.encoder.model_copy(update={"fuse_groups": ((1,), (2,))})
    assert FitConfig.model_validate(config.model_dump() | {"encoder": two_groups.model_dump()})
    patch = config.detector.patch.model_copy(update={"depth": 3})
    detector = config.detector.model_copy(update={"patch": patch}).model_dump()
    with pytest.raises(ValidationError, match=r"detector.patch.depth must be a multiple of the 2 .* got 3"):
        FitConfig.model_validate(
            config.model_dump() | {"encoder": two_groups.model_dump(), "detector": detector}
        )


def test_a_batch_is_made_of_equal_parts() -> None:
    with pytest.raises(ValidationError, match="batch_size must be a multiple of accumulate 3, got 4"):
        TrainConfig(batch_size=4, accumulate=3)


@pytest.mark.parametrize("jpeg", [(0, 90), (95, 75), (75, 101)])
def test_qualities_of_jpeg_are_checked(jpeg: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match="jpeg must be two qualities"):
        DataConfig(jpeg=jpeg)
