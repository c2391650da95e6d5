"""Samples of a folder or a list, their errors, and those that are held out."""

import json
import logging
from pathlib import Path

import pytest

from tests.training.data.drawn import save, save_mask
from training.data import dataset
from training.data.dataset import find_samples, split_holdout, without_mask
from training.data.pictures import DataError, Sample


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
