from pathlib import Path

from export.contract.manifest import InputSpec
from training.data.dataset import find_samples
from training.data.pictures import load_mask, load_picture
from training.demo.things.folders import Counts, make_folders
from training.demo.things.scene import SIZE, Thing
from training.moeclip.auxiliary import class_name

SPEC = InputSpec(height=SIZE, width=SIZE)
DATA_SETS = {"test": ((Thing("box", "wood"), Thing("tile", "stone")), Counts(2, 1, 1))}


def test_the_folders_are_a_data_set_with_masks(tmp_path: Path) -> None:
    make_folders(tmp_path, data_sets=DATA_SETS)
    samples = find_samples(tmp_path / "test")
    assert {class_name(sample) for sample in samples} == {"wooden box", "stone tile"}
    assert len(samples) == 2 * (2 + 1 + 6)
    for sample in samples:
        assert load_picture(sample.path, SPEC).shape == (SIZE, SIZE, 3)
        mask = load_mask(sample, SPEC)
        assert mask is not None
        assert mask.any() == sample.is_anomalous


def test_pictures_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    make_folders(tmp_path / "few", data_sets=DATA_SETS)
    make_folders(tmp_path / "more", data_sets={"test": (DATA_SETS["test"][0], Counts(0, 3, 0))})
    few, more = (tmp_path / name / "test/wooden_box/test/good/000.png" for name in ("few", "more"))
    assert few.read_bytes() == more.read_bytes()


def test_progress_counts_the_pictures(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_folders(tmp_path, data_sets=DATA_SETS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 18) for number in range(1, 19)]
