"""Pictures of a run: as an array would give them, and no more held at once than is allowed."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from export.contract.preprocess import Pixels
from tests.training.tiny_run import normal_pictures, quiet_progress
from training.data import store as store_module
from training.data.sets.samples import DataError, Sample
from training.data.store import PictureRows, PictureStore, batches, take

SPEC = InputSpec(height=48, width=48)
COUNT = 150
ONE = 48 * 48 * 3


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for number, picture in enumerate(normal_pictures("disc", COUNT)):
        Image.fromarray(picture).save(folder / f"{number:03}.png")
        found.append(Sample(folder / f"{number:03}.png", "disc", "train", "good", (), is_anomalous=False))
    return found


def rows_of(samples: list[Sample], most_bytes: float) -> PictureRows:
    return PictureRows(PictureStore(samples, SPEC, most_bytes, 2, quiet_progress()), samples)


@pytest.mark.parametrize("most_bytes", [COUNT * ONE, COUNT * ONE - 1], ids=["kept", "read again"])
def test_pictures_are_indexed_like_an_array(samples: list[Sample], most_bytes: int) -> None:
    pictures, array = rows_of(samples, most_bytes), normal_pictures("disc", COUNT)
    assert len(pictures) == COUNT
    np.testing.assert_array_equal(pictures[3], array[3])
    np.testing.assert_array_equal(pictures[-2:], array[-2:])
    np.testing.assert_array_equal(pictures[np.array([7, 7, 1])], array[[7, 7, 1]])
    is_even = np.arange(COUNT) % 2 == 0
    np.testing.assert_array_equal(pictures[is_even], array[is_even])
    some = take(pictures, is_even)
    assert isinstance(some, PictureRows)
    np.testing.assert_array_equal(some[1:3], take(array, is_even)[1:3])
    assert pictures[:0].shape == (0, 48, 48, 3)
    np.testing.assert_array_equal(np.concatenate(list(batches(pictures, 64))), array)
    assert [len(part) for part in batches(array, 64)] == [64, 64, 22]


def test_kept_pictures_need_their_files_no_more(samples: list[Sample], tmp_path: Path) -> None:
    copies = [Sample(tmp_path / one.path.name, *list(vars(one).values())[1:]) for one in samples[:3]]
    for copy, one in zip(copies, samples, strict=False):
        copy.path.write_bytes(one.path.read_bytes())
    kept, absent = rows_of(copies, 3 * ONE), rows_of(copies, 0)
    for copy in copies:
        copy.path.unlink()
    assert kept[:].shape == (3, 48, 48, 3)
    with pytest.raises(DataError, match=r"000\.png"):
        absent[0]


def test_equal_pixels_have_equal_digests(samples: list[Sample]) -> None:
    digests = {part.tobytes() for part in rows_of(samples, 0).digests()}
    assert len(digests) == COUNT
    first = rows_of(samples[:1], 0).store.digests[samples[0]]
    assert first in digests


def test_a_broken_picture_is_told_before_any_use(samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(samples[0].path.read_bytes()[:200])
    broken = Sample(tmp_path / "broken.png", "disc", "train", "good", (), is_anomalous=False)
    with pytest.raises(DataError, match=r"broken\.png"):
        rows_of([*samples, broken], 0)


def test_no_more_pictures_are_held_than_allowed(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted is what was read and not yet forgotten, however many pictures there are."""
    held, most, lock = 0, 0, threading.Lock()

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal held
            with lock:
                held -= 1

    def load(path: Path, spec: InputSpec, jpeg: None) -> Pixels:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return np.zeros((spec.height, spec.width, 3), np.uint8).view(Counted)

    monkeypatch.setattr(store_module, "load_picture", load)
    pictures = rows_of(samples * 4, 0)
    assert 0 < most <= 2 * store_module.AT_ONCE
    most = 0
    assert sum(len(part) for part in batches(pictures, 16)) == 4 * COUNT
    assert 0 < most <= 2 * 16
    assert held <= 16
