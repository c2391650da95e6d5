"""Auxiliary pictures: names, masks at model size, and batches that favour no class and no state."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from training.data.dataset import find_samples
from training.data.pictures import DataError, Sample
from training.moeclip.auxiliary import AuxiliarySet, auxiliary_samples, batches, class_name
from training.moeclip.fit_config import MoECLIPTrainConfig

SPEC = InputSpec(height=28, width=28)


def sample(category: str, number: int, is_anomalous: bool, masks: tuple[Path, ...] = (Path("m"),)) -> Sample:
    kind = "crack" if is_anomalous else "good"
    path = Path(f"{category}/{kind}/{number}.png")
    return Sample(path, category, "test", kind, masks if is_anomalous else (), is_anomalous)


def uneven() -> AuxiliarySet:
    """Two classes: 12 good and 2 cracked nuts, 3 good and 6 cracked tiles."""
    counts = {("nut", False): 12, ("nut", True): 2, ("tile", False): 3, ("tile", True): 6}
    samples = [
        sample(category, number, is_anomalous)
        for (category, is_anomalous), count in counts.items()
        for number in range(count)
    ]
    return AuxiliarySet(samples, SPEC)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_names_have_spaces_for_underscores() -> None:
    assert class_name(sample("metal_nut", 0, False)) == "metal nut"
    assert class_name(sample(" a__B ", 0, False)) == "a b"


def test_pictures_without_masks_are_left_out() -> None:
    given = [sample("nut", 0, False), sample("nut", 1, True), sample("nut", 2, True, ())]
    assert auxiliary_samples(given, "data") == given[:2]


@pytest.mark.parametrize(
    ("kept", "missing"), [(False, "no anomalous pictures with masks"), (True, "no good pictures")]
)
def test_both_states_are_needed(kept: bool, missing: str) -> None:
    with pytest.raises(DataError, match=f"some/data: {missing} found"):
        auxiliary_samples([sample("nut", 0, kept)], "some/data")


def test_masks_are_resized_nearest_at_model_size(tmp_path: Path) -> None:
    picture = np.full((56, 56, 3), 90, np.uint8)
    mask = np.zeros((56, 56), np.uint8)
    mask[10:31, 20:41] = 255
    write(tmp_path / "metal_nut/test/good/0.png", picture)
    write(tmp_path / "metal_nut/train/good/1.png", picture)
    write(tmp_path / "metal_nut/test/crack/0.png", picture)
    write(tmp_path / "metal_nut/ground_truth/crack/0_mask.png", mask)
    data = AuxiliarySet(auxiliary_samples(find_samples(tmp_path), tmp_path), SPEC)
    pixels, masks = data.load(np.arange(3))
    assert pixels.shape == (3, 28, 28, 3)
    assert set(data.names) == {"metal nut"}
    np.testing.assert_array_equal(masks[data.is_anomalous][0], mask[1::2, 1::2] > 0)
    assert not masks[~data.is_anomalous].any()


def test_balanced_batches_favour_no_state_and_no_class() -> None:
    data = uneven()
    rows = np.concatenate(list(islice(batches(data, 4, "balanced", seed=0), 36)))
    assert data.is_anomalous[rows].mean() == 0.5
    assert Counter(data.names[row] for row in rows) == {"nut": 72, "tile": 72}
    assert all(data.is_anomalous[one].sum() == 2 for one in rows.reshape(-1, 4))


def test_every_picture_comes_before_any_comes_again() -> None:
    data = uneven()
    rows = np.concatenate(list(islice(batches(data, 1, "balanced", seed=1), 200)))
    for name, is_anomalous in {("nut", True), ("nut", False), ("tile", True), ("tile", False)}:
        members = [row for row in rows if data.names[row] == name and data.is_anomalous[row] == is_anomalous]
        counts = Counter(members)
        assert max(counts.values()) - min(counts.values()) <= 1
    plain = np.concatenate(list(islice(batches(data, 23, "plain", seed=1), 2)))
    assert Counter(plain.tolist()) == dict.fromkeys(range(23), 2)


def visa_test_split() -> list[Sample]:
    """962 good and 1200 anomalous test pictures of 12 classes, and as many to train on again."""
    test = [sample(f"class {number % 12}", number, number >= 962) for number in range(2162)]
    return test + [
        replace(one, split="train", path=Path("train") / one.path) for one in test if one.kind == "good"
    ]


def test_the_paper_trains_twenty_times_on_the_test_split_of_visa() -> None:
    """21 620 steps of two pictures, at half the learning rate in the end."""
    config = MoECLIPTrainConfig()
    data = AuxiliarySet(auxiliary_samples(visa_test_split(), "visa", config.splits), SPEC)
    steps = config.total_steps(len(data))
    assert (len(data), steps) == (2162, 21_620)
    assert (config.rate(1), config.rate(steps)) == (5e-4, 2.5e-4)
    rows = np.concatenate(list(islice(batches(data, config.batch_size, config.sampling, seed=0), steps)))
    assert set(Counter(rows.tolist()).values()) == {20}
    assert {one.split for one in data.samples} == {"test"}


def test_other_splits_are_a_setting() -> None:
    config = MoECLIPTrainConfig(splits=("train", "test"))
    assert len(auxiliary_samples(visa_test_split(), "visa", config.splits)) == 2162 + 962
    with pytest.raises(DataError, match="no anomalous pictures with masks found in train,"):
        auxiliary_samples(visa_test_split(), "visa", ["train"])


def test_a_description_stands_for_the_name_of_a_category() -> None:
    assert class_name(replace(sample("pcb1", 0, False), description="printed circuit_board")) == (
        "printed circuit board"
    )


@pytest.mark.parametrize("sampling", ["balanced", "plain"])
def test_the_seed_decides(sampling: str) -> None:
    data = uneven()
    first, again, other = (
        np.stack(list(islice(batches(data, 3, sampling, seed), 9))).tolist()  # type: ignore[arg-type]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
