"""The pixels of a picture as the model reads them, and files that are none."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from export.contract.preprocess import fit, to_rgb
from tests.training.data.drawn import SPEC, save
from training.data.pictures import DataError, load_picture


def test_a_pipe_among_pictures_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: is no file"):
        load_picture(tmp_path / "pipe.png", SPEC)


def test_half_of_the_lossless_pictures_are_compressed(tmp_path: Path) -> None:
    rng, spec = np.random.default_rng(0), InputSpec(height=32, width=32)
    pixels = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    paths = [save(tmp_path / f"{number}.png", one) for number, one in enumerate(pixels)]
    read = np.stack([load_picture(path, spec, (70, 95)) for path in paths])
    is_changed = (read != pixels).any((1, 2, 3))
    assert 10 <= is_changed.sum() <= 30
    assert np.abs(read.astype(int) - pixels).mean((1, 2, 3))[is_changed].min() > 1
    copy = save(tmp_path / "copy.bmp", pixels[is_changed][0])
    np.testing.assert_array_equal(load_picture(copy, spec, (70, 95)), read[is_changed][0])


def test_pictures_that_were_compressed_stay_as_they_are(tmp_path: Path) -> None:
    for seed in range(8):
        path = save(
            tmp_path / f"{seed}.jpg", np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        )
        np.testing.assert_array_equal(load_picture(path, SPEC, (1, 1)), load_picture(path, SPEC))


class TestLoadPicture:
    def test_takes_the_pipeline_of_the_service(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        path = save(tmp_path / "a.png", pixels)
        spec = InputSpec(height=8, width=12, crop=0.8)
        loaded = load_picture(path, spec)
        assert loaded.shape == (8, 12, 3)
        assert np.array_equal(loaded, fit(to_rgb(Image.open(path)), spec))

    @pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut off"])
    def test_an_unreadable_file_is_named(self, tmp_path, content):
        (tmp_path / "broken.png").write_bytes(content)
        with pytest.raises(DataError, match=r"broken.png: cannot be read as a picture"):
            load_picture(tmp_path / "broken.png", SPEC)

    def test_a_truncated_file_is_named(self, tmp_path):
        path = save(
            tmp_path / "cut.png", np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        )
        path.write_bytes(path.read_bytes()[:900])
        with pytest.raises(DataError, match=r"cut.png: cannot be read"):
            load_picture(path, SPEC)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(DataError, match=r"gone.png"):
            load_picture(tmp_path / "gone.png", SPEC)
