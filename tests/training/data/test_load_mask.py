"""The mask of a picture: its size, its parts, what it belongs to."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from tests.exif import NOT_TURNED, TURNED, TURNED_TWICE
from tests.training.data.drawn import SPEC, save, save_mask
from training.data.pictures import DataError, Sample, load_mask, load_picture


def anomaly(picture: Path, *masks: Path) -> Sample:
    return Sample(picture, "tile", "test", "crack", masks, is_anomalous=True)


class TestLoadMask:
    def test_is_resized_nearest_to_the_asked_size(self, tmp_path):
        sample = anomaly(save(tmp_path / "a.png"), save_mask(tmp_path / "m.png", (8, 0, 16, 6)))
        mask = load_mask(sample, SPEC)
        assert mask is not None
        assert mask.dtype == np.bool_
        assert np.array_equal(np.argwhere(mask), [[y, x] for y in range(4) for x in range(4, 8)])
        small = load_mask(sample, SPEC, size=(2, 4))
        assert small is not None
        assert np.array_equal(small, [[False, False, True, True], [False] * 4])

    def test_lies_where_the_cropped_picture_shows_the_defect(self, tmp_path):
        box, spec = (60, 30, 90, 55), InputSpec(height=32, width=48, crop=0.8)
        pixels = np.zeros((100, 150), dtype=np.uint8)
        pixels[box[1] : box[3], box[0] : box[2]] = 255
        sample = anomaly(save(tmp_path / "a.png", pixels), save_mask(tmp_path / "m.png", box, (150, 100)))
        shown = load_picture(sample.path, spec)[..., 0] > 127
        mask = load_mask(sample, spec)
        assert mask is not None
        assert (shown & mask).sum() / (shown | mask).sum() > 0.9

    def test_several_masks_are_united(self, tmp_path):
        masks = [save_mask(tmp_path / f"{x}.png", (x, 0, x + 2, 12)) for x in (0, 14)]
        mask = load_mask(anomaly(save(tmp_path / "a.png"), *masks), SPEC)
        assert mask is not None
        assert mask.any(0).tolist() == [True] + [False] * 6 + [True]

    @pytest.mark.parametrize("value", [1, 3, 255])
    def test_any_number_marks_a_defect(self, tmp_path, value):
        mask = load_mask(
            anomaly(save(tmp_path / "a.png"), save_mask(tmp_path / "m.png", (0, 0, 8, 12), value=value)), SPEC
        )
        assert mask is not None
        assert mask.mean() == 0.5

    @pytest.mark.parametrize(("box", "share"), [((0, 0, 0, 0), "0 %"), ((0, 0, 16, 11), "92 %")])
    def test_a_mask_that_marks_nothing_or_nearly_all_is_named(self, tmp_path, caplog, box, share):
        sample = anomaly(save(tmp_path / "a.png"), save_mask(tmp_path / "m.png", box))
        assert load_mask(sample, SPEC) is not None
        assert f"m.png: marks {share} of its picture {tmp_path / 'a.png'}" in caplog.text

    def test_half_a_picture_may_be_marked(self, tmp_path, caplog):
        masks = [save_mask(tmp_path / "m.png", (0, 0, 8, 12)), save_mask(tmp_path / "n.png", (0, 0, 0, 0))]
        load_mask(anomaly(save(tmp_path / "a.png"), *masks), SPEC)
        assert not caplog.text

    @pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "I;16"])
    def test_reads_every_mode(self, tmp_path, mode):
        grey = Image.fromarray(np.repeat([[0, 255]], 12, axis=0).repeat(8, axis=1).astype(np.uint8))
        (grey.convert("I") if mode == "I;16" else grey).convert(mode).save(tmp_path / "m.png")
        mask = load_mask(anomaly(save(tmp_path / "a.png"), tmp_path / "m.png"), SPEC)
        assert mask is not None
        assert mask.any(0).tolist() == [False] * 4 + [True] * 4

    def test_another_size_names_both_files(self, tmp_path):
        sample = anomaly(save(tmp_path / "a.png"), save_mask(tmp_path / "m.png", (0, 0, 1, 1), size=(16, 11)))
        with pytest.raises(DataError, match=r"m.png: mask is \(16, 11\), its picture .*a.png is \(16, 12\)"):
            load_mask(sample, SPEC)

    @pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow
    @pytest.mark.parametrize("exif", [TURNED, TURNED_TWICE])
    @pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
    def test_belongs_to_the_upright_picture(self, tmp_path, suffix, exif):
        Image.new("RGB", (12, 16)).save(tmp_path / f"a.{suffix}", exif=exif)
        sample = anomaly(tmp_path / f"a.{suffix}", save_mask(tmp_path / "m.png", (0, 0, 1, 1)))
        assert load_mask(sample, SPEC) is not None

    @pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow
    @pytest.mark.parametrize("exif", NOT_TURNED, ids=bytes.hex)
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
    def test_exif_that_is_none_turns_nothing(self, tmp_path, suffix, exif):
        Image.new("RGB", (16, 12)).save(tmp_path / f"a.{suffix}", exif=exif)
        assert load_picture(tmp_path / f"a.{suffix}", SPEC).shape == (8, 8, 3)
        sample = anomaly(tmp_path / f"a.{suffix}", save_mask(tmp_path / "m.png", (0, 0, 4, 6)))
        mask = load_mask(sample, SPEC)
        assert mask is not None
        assert mask.mean() == 0.125

    def test_of_a_normal_picture_is_empty_and_of_an_unmarked_anomaly_unknown(self, tmp_path):
        normal = load_mask(Sample(tmp_path / "a.png", "tile", "test", "good", (), False), SPEC)
        assert normal is not None
        assert normal.shape == (8, 8)
        assert not normal.any()
        assert load_mask(anomaly(tmp_path / "a.png"), SPEC) is None
