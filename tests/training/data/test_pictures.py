"""Data sets in every form that is read, their errors, and the pixels that come out."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from export.contract.preprocess import fit, to_rgb
from tests.exif import NOT_TURNED, TURNED, TURNED_TWICE
from training.data import dataset
from training.data.dataset import find_samples, split_holdout, without_mask
from training.data.pictures import DataError, Sample, load_mask, load_picture

SPEC = InputSpec(height=8, width=8)
Size = tuple[int, int]


def save(path: Path, pixels: np.ndarray | None = None, size: Size = (16, 12)) -> Path:
    """A picture of `size` (width, height), grey unless pixels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (90, 100, 110)) if pixels is None else Image.fromarray(pixels)
    image.save(path)
    return path


def save_mask(path: Path, box: tuple[int, int, int, int], size: Size = (16, 12), value: int = 255) -> Path:
    left, top, right, bottom = box
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[top:bottom, left:right] = value
    return save(path, pixels)


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


def anomaly(picture: Path, *masks: Path) -> Sample:
    return Sample(picture, "tile", "test", "crack", masks, is_anomalous=True)


@pytest.fixture
def tile(tmp_path):
    """A category in MVTec form: two normal pictures to train, one normal and two cracked ones to test."""
    root = tmp_path / "tile"
    for name in (
        "train/good/a.png",
        "train/good/b.JPG",
        "test/good/c.png",
        "test/crack/d.png",
        "test/crack/e.png",
    ):
        save(root / name)
    save_mask(root / "ground_truth/crack/d_mask.png", (0, 0, 4, 4))
    save_mask(root / "ground_truth/crack/e.png", (0, 0, 4, 4))
    return root


class TestFindSamples:
    def test_a_category(self, tile):
        found = {sample.path.name: sample for sample in find_samples(tile)}
        assert set(found) == {"a.png", "b.JPG", "c.png", "d.png", "e.png"}
        assert {sample.category for sample in found.values()} == {"tile"}
        assert (found["b.JPG"].split, found["b.JPG"].kind, found["b.JPG"].is_anomalous) == (
            "train",
            "good",
            False,
        )
        assert (found["d.png"].split, found["d.png"].kind, found["d.png"].is_anomalous) == (
            "test",
            "crack",
            True,
        )
        assert found["c.png"].mask_paths == ()

    def test_both_mask_names(self, tile):
        masks = {sample.path.stem: sample.mask_paths for sample in find_samples(tile) if sample.is_anomalous}
        folder = tile / "ground_truth" / "crack"
        assert masks == {"d": (folder / "d_mask.png",), "e": (folder / "e.png",)}

    def test_several_masks_of_one_picture(self, tile):
        save(tile / "test/logical/000.png")
        folder = tile / "ground_truth/logical/000"
        masks = tuple(save_mask(folder / name, (0, 0, 1, 1)) for name in ("000.png", "001.png"))
        logical = [sample for sample in find_samples(tile) if sample.kind == "logical"]
        assert [sample.mask_paths for sample in logical] == [masks]

    def test_a_folder_of_categories(self, tile):
        save(tile.parent / "wood/test/good/a.png")
        save(tile.parent / "readme.png")
        (tile.parent / "papers").mkdir()
        assert {sample.category for sample in find_samples(tile.parent)} == {"tile", "wood"}

    def test_plain_pictures_are_normal_and_to_train(self, tmp_path):
        picture = save(tmp_path / "bolt" / "x.png")
        save(tmp_path / "bolt" / "._x.png")
        assert find_samples(tmp_path / "bolt") == [Sample(picture, "bolt", "train", "good", (), False)]

    def test_the_current_folder_has_a_name(self, tile, monkeypatch):
        monkeypatch.chdir(tile)
        assert {sample.category for sample in find_samples(Path())} == {"tile"}

    def test_an_anomaly_without_mask_is_kept_and_logged(self, tile, caplog):
        (tile / "ground_truth/crack/e.png").unlink()
        with caplog.at_level(logging.WARNING, logger="training.data.pictures"):
            samples = find_samples(tile)
        assert [sample.path.name for sample in without_mask(samples)] == ["e.png"]
        assert "1 anomalous pictures have no mask" in caplog.text
        assert "e.png" in caplog.text

    def test_nothing_found_names_the_folder_and_what_was_looked_for(self, tmp_path):
        with pytest.raises(DataError, match=rf"{tmp_path}: no pictures found; looked for train/good.*\.png"):
            find_samples(tmp_path)
        (tmp_path / "tile" / "train" / "good").mkdir(parents=True)
        with pytest.raises(DataError, match="tile: no pictures found in train/good"):
            find_samples(tmp_path)


class TestList:
    def write(self, folder: Path, *entries: dict[str, object]) -> Path:
        file = folder / "list.jsonl"
        file.write_text("\n".join(json.dumps(entry) for entry in entries) + "\n", encoding="utf-8")
        return file

    def test_reads_every_field(self, tmp_path):
        file = self.write(
            tmp_path,
            {"image": "i/a.png", "mask": "", "label": 0, "class_name": "pipe", "split": "train"},
            {"image": "i/b.png", "mask": "m/b.png", "label": 1, "class_name": "pipe"},
            {"image": "i/c.png", "mask": ["m/1.png", "m/2.png"], "label": 1, "class_name": "nut", "extra": 1},
        )
        assert find_samples(file) == [
            Sample(tmp_path / "i/a.png", "pipe", "train", "good", (), False),
            Sample(tmp_path / "i/b.png", "pipe", "test", "defect", (tmp_path / "m/b.png",), True),
            Sample(
                tmp_path / "i/c.png",
                "nut",
                "test",
                "defect",
                (tmp_path / "m/1.png", tmp_path / "m/2.png"),
                True,
            ),
        ]

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"image": "a.png", "label": 2, "class_name": "nut"}, "list.jsonl:2: label: .*got 2"),
            ({"image": "a.png", "label": 0}, "list.jsonl:2: class_name: Field required"),
            ({"image": "a.png", "label": 0, "class_name": "nut", "split": "val"}, "split: .*got 'val'"),
        ],
    )
    def test_a_wrong_field_is_named_with_its_line(self, tmp_path, entry, message):
        file = self.write(tmp_path, {"image": "a.png", "label": 0, "class_name": "nut"}, entry)
        with pytest.raises(DataError, match=message):
            find_samples(file)

    def test_a_byte_order_mark_before_it_is_passed_over(self, tmp_path):
        file = self.write(tmp_path, {"image": "a.png", "label": 0, "class_name": "nut"})
        file.write_text(file.read_text(), encoding="utf-8-sig")
        assert [one.category for one in find_samples(file)] == ["nut"]

    @pytest.mark.parametrize("line", [b"{", b"[]", b'{"image": "\xff"}'])
    def test_a_line_that_is_no_object_is_refused(self, tmp_path, line):
        (tmp_path / "list.jsonl").write_bytes(b"\n" + line)
        with pytest.raises(DataError, match=r"list.jsonl:2: line: "):
            find_samples(tmp_path / "list.jsonl")

    def test_other_files_and_empty_lists_are_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"a.png: a data set is a folder or a .jsonl list"):
            find_samples(save(tmp_path / "a.png"))
        with pytest.raises(DataError, match="gone: no such folder or list"):
            find_samples(tmp_path / "gone")
        with pytest.raises(DataError, match="the list is empty"):
            find_samples(self.write(tmp_path))


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


def normal(category: str, count: int) -> list[Sample]:
    return [
        Sample(Path(f"{category}/good/{i:03}.png"), category, "train", "good", (), False)
        for i in range(count)
    ]


class TestSplitHoldout:
    def test_parts_every_category_in_about_the_fraction(self):
        samples = normal("tile", 200) + normal("wood", 100)
        kept, held_out = split_holdout(samples, 0.2)
        assert sorted(kept + held_out, key=samples.index) == samples
        for category, count in {"tile": 200, "wood": 100}.items():
            held = sum(sample.category == category for sample in held_out)
            assert held / count == pytest.approx(0.2, abs=0.1)

    def test_a_picture_keeps_its_side_when_files_are_added(self):
        few, many = normal("tile", 50), normal("tile", 90)
        _, before = split_holdout(few, 0.3)
        _, after = split_holdout(many, 0.3)
        assert before == [sample for sample in after if sample in few]

    def test_does_not_depend_on_order_or_place_but_on_the_seed(self):
        samples = normal("tile", 60)
        moved = [
            Sample(Path("/elsewhere") / s.path, *("tile", "train", "good", (), False)) for s in samples[::-1]
        ]
        names = {sample.path.name for sample in split_holdout(samples, 0.3)[1]}
        assert {sample.path.name for sample in split_holdout(moved, 0.3)[1]} == names
        assert {sample.path.name for sample in split_holdout(samples, 0.3, seed=1)[1]} != names

    @pytest.mark.parametrize("fraction", [0.001, 0.999])
    def test_leaves_at_least_one_on_each_side(self, fraction):
        kept, held_out = split_holdout(normal("tile", 3), fraction)
        assert kept
        assert held_out

    def test_no_more_are_held_out_than_a_threshold_needs(self, monkeypatch):
        monkeypatch.setattr(dataset, "MOST_HELD_OUT", 7)
        kept, held_out = split_holdout(normal("tile", 50), 0.4)
        assert (len(kept), len(held_out)) == (43, 7)

    def test_refuses_what_cannot_be_split(self):
        with pytest.raises(DataError, match="'tile' has one picture"):
            split_holdout(normal("tile", 1), 0.2)
        with pytest.raises(DataError, match=r"below 1, got 1.0"):
            split_holdout(normal("tile", 5), 1.0)
