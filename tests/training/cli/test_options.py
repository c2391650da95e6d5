"""Options of several commands: settings of a file, class names."""

from pathlib import Path

import pytest

from tests.training.data.drawn import save
from tests.training.tiny_run import tiny_config
from training.anomalymoe.fit_config import preset
from training.cli.options import read_settings, reading
from training.data.dataset import find_samples
from training.runs.files import CheckpointError

ROOT = Path(__file__).parents[3]


def test_settings_of_a_file_lie_over_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text('{"train": {"steps": 7}, "detector": {"patch": {"count": 2}}}')
    changed, plain = read_settings("efficientnet-lite0", path), preset("efficientnet-lite0")
    assert (changed.train.steps, changed.detector.patch.count) == (7, 2)
    assert changed.train.learning_rate == plain.train.learning_rate
    assert changed.detector.component == plain.detector.component
    path.write_text('{"backbone": "offline", "pretext": {"steps": 3}}')
    assert read_settings("efficientnet-lite0", path).encoder == preset("offline").encoder
    path.write_text(tiny_config().model_dump_json(), encoding="utf-8-sig")
    assert read_settings("efficientnet-lite0", path) == tiny_config()
    path.write_text("{}", encoding="utf-16")
    with pytest.raises(CheckpointError, match=f"{path}: is no text in UTF-8"):
        read_settings("efficientnet-lite0", path)


@pytest.mark.parametrize(("name", "side"), [("rehearsal", 96), ("fine", 640)])
def test_settings_of_the_docs_are_settings(name: str, side: int) -> None:
    settings = read_settings("efficientnet-lite0", ROOT / "docs" / f"{name}.json")
    assert settings.input.height == settings.encoder.image_size[0] == side


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": {"step": 7}}', "train.step: Extra inputs are not permitted, got 7"),
        ('{"backbone": "resnet"}', "backbone: .*got 'resnet'"),
        ("[1]", "some.json"),
        ("{", "some.json"),
    ],
)
def test_wrong_settings_of_a_file_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_settings("efficientnet-lite0", tmp_path / "some.json")


def test_class_names_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text('{"nut": "metal nut"}', encoding="utf-8-sig")
    save(tmp_path / "nut/train/good/1.png")
    with reading("good", None, path):
        assert [one.description for one in find_samples(tmp_path)] == ["metal nut"]
