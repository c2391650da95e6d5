"""Folders of pictures as people keep them: other names, folders below, other suffixes, other Unicode."""

import json
import logging
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from tests.training.data.drawn import SPEC, save
from training.data.dataset import Places, find_samples, split_holdout
from training.data.pictures import DataError, Sample, load_mask, load_picture
from training.data.sets.listing import SUFFIXES
from training.data.sets.mvtec import taken_for_good

NFC, NFD = (normalize(form, "Gehäuse") for form in ("NFC", "NFD"))


def kinds(root: Path) -> dict[str, str]:
    """The kind of each test picture by the folder and name of its file."""
    return {
        f"{one.path.parent.name}/{one.path.stem}": one.kind
        for one in find_samples(root)
        if one.split == "test"
    }


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is told, too, that is no warning."""
    caplog.set_level(logging.INFO, logger="training")
    return caplog


class TestGoodFolders:
    @pytest.mark.parametrize("name", ["good", "OK", "ok", "Good", "GOOD", "normal", "Normal", "good "])
    def test_folders_that_say_so_hold_good_pictures(
        self, tmp_path: Path, said: pytest.LogCaptureFixture, name: str
    ) -> None:
        for place in (f"train/{name}/1.png", f"test/{name}/2.png", f"test/{name}/3.png", "test/crack/4.png"):
            save(tmp_path / place)
        assert [one.kind for one in find_samples(tmp_path) if not one.is_anomalous] == ["good"] * 3
        assert [one.kind for one in find_samples(tmp_path) if one.is_anomalous] == ["crack"]
        assert f"{tmp_path}: taken for good: {name} 3; for defects: crack 1" in said.text

    def test_several_at_once_are_told_apart(self, tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
        for place in ("train/good/1.png", "test/good/1.png", "test/OK/1.png", "test/not ok/1.png"):
            save(tmp_path / place)
        assert kinds(tmp_path) == {"good/1": "good", "OK/1": "good", "not ok/1": "not ok"}
        assert "taken for good: good 2, OK 1; for defects: not ok 1" in said.text

    def test_the_names_can_be_others(self, tmp_path: Path) -> None:
        save(tmp_path / "test/iO/1.png")
        save(tmp_path / "test/normal/1.png")
        with taken_for_good(["io", " OK"]):
            assert kinds(tmp_path) == {"iO/1": "good", "normal/1": "normal"}
        assert kinds(tmp_path) == {"iO/1": "iO", "normal/1": "good"}

    def test_splits_and_masks_are_found_in_any_case(self, tmp_path: Path) -> None:
        save(tmp_path / "Train/good/1.png")
        save(tmp_path / "TEST/Crack/1.png")
        mask = save(tmp_path / "Ground_Truth/crack/1_mask.png")
        assert [(one.split, one.mask_paths) for one in find_samples(tmp_path)] == [
            ("train", ()),
            ("test", (mask,)),
        ]

    def test_masks_are_found_in_any_case_where_none_has_the_very_name(self, tmp_path: Path) -> None:
        for name in ("IMG_1.PNG", "b.png", "B.png"):
            save(tmp_path / "test/crack" / name)
        masks = [
            save(tmp_path / "ground_truth/crack" / name)
            for name in ("B_mask.png", "img_1_MASK.png", "b_mask.png")
        ]
        assert [one.mask_paths for one in find_samples(tmp_path)] == [(one,) for one in masks]

    def test_a_mask_beside_its_picture_is_no_part_with_a_defect(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for place in (
            "train/good/1.png",
            "train/good/1_mask.png",
            "test/crack/2.png",
            "test/crack/a_mask.png",
        ):
            save(tmp_path / place)
        mask = save(tmp_path / "test/crack/2_Mask.png")
        assert [(one.path.name, one.mask_paths) for one in find_samples(tmp_path)] == [
            ("1.png", ()),
            ("2.png", (mask,)),
            ("a_mask.png", ()),
        ]
        assert f"{tmp_path}: passed over: 1 .png (train/good/1_mask.png)" in caplog.text


class TestFoldersBelow:
    def test_their_pictures_belong_to_the_kind(self, tmp_path: Path) -> None:
        for place in ("train/good/3.png", "train/good/day 1/1.png", "train/good/day 2/late/1.png"):
            save(tmp_path / place)
        found = find_samples(tmp_path)
        assert {one.subfolder for one in found} == {"", "day 1", "day 2/late"}
        assert {one.kind for one in found} == {"good"}
        assert sum(map(len, split_holdout(found, 0.3))) == 3

    def test_their_masks_lie_in_such_folders_too(self, tmp_path: Path) -> None:
        for day in ("1", "2"):
            save(tmp_path / f"test/crack/{day}/a.png")
            save(tmp_path / f"ground_truth/crack/{day}/a_mask.png")
        masks = [one.mask_paths for one in find_samples(tmp_path)]
        assert masks == [(tmp_path / f"ground_truth/crack/{day}/a_mask.png",) for day in "12"]

    def test_links_in_a_circle_end(self, tmp_path: Path) -> None:
        save(tmp_path / "train/good/1.png")
        (tmp_path / "train/good/again").symlink_to(tmp_path / "train", target_is_directory=True)
        assert len(find_samples(tmp_path)) == 1

    def test_those_of_systems_hold_no_pictures(self, tmp_path: Path) -> None:
        """A network drive keeps thumbnails, and what was deleted, beside the pictures."""
        save(tmp_path / "train/good/1.png")
        for place in (
            "train/good/@eaDir/1.png/thumb.png",
            "train/good/#recycle/bad.png",
            "test/@eaDir/1.png",
        ):
            save(tmp_path / place)
        assert [one.path for one in find_samples(tmp_path)] == [tmp_path / "train/good/1.png"]


class TestSuffixes:
    @pytest.mark.parametrize("suffix", SUFFIXES.split())
    def test_every_one_is_read(self, tmp_path: Path, suffix: str) -> None:
        form = Image.registered_extensions().get(suffix)
        if form not in Image.SAVE:
            pytest.skip(f"this Pillow writes no {suffix}")
        (tmp_path / "train/good").mkdir(parents=True)
        Image.new("L", (16, 12), 255).convert("1" if suffix == ".pbm" else "RGB").save(
            tmp_path / f"train/good/1{suffix.upper()}"
        )
        (one,) = find_samples(tmp_path)
        assert load_picture(one.path, SPEC).min() > 250

    def test_what_is_passed_over_is_named(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for place in ("train/good/1.png", "test/crack/1.png", "val/good/1.png", "test/2.png", "test/3.png"):
            save(tmp_path / place)
        save(tmp_path / "ground_truth/crack/other.png")
        (tmp_path / "train/good/2.HEIC").touch()
        (tmp_path / "train/good/list").touch()
        (tmp_path / "train/good/.hidden").touch()
        find_samples(tmp_path)
        left = "4 .png (ground_truth/crack/other.png), 1 .heic (train/good/2.HEIC), 1 without suffix"
        assert f"{tmp_path}: passed over: {left} (train/good/list)" in caplog.text

    def test_nothing_is_said_where_all_is_read(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        save(tmp_path / "train/good/1.png")
        find_samples(tmp_path)
        assert not [one for one in caplog.records if one.levelno >= logging.WARNING]

    def test_pictures_below_a_folder_without_kinds_are_no_normal_ones(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        save(tmp_path / "1.png")
        save(tmp_path / "crack/2.png")
        assert [one.path.name for one in find_samples(tmp_path)] == ["1.png"]
        assert "passed over: 1 .png (crack/2.png)" in caplog.text

    def test_an_error_names_them_too(self, tmp_path: Path) -> None:
        save(tmp_path / "train/1.png")
        with pytest.raises(DataError, match=r"no pictures found in .*passed over: 1 \.png \(train/1\.png\)"):
            find_samples(tmp_path)


class TestUnicode:
    def test_a_category_has_one_name(self, tmp_path: Path) -> None:
        save(tmp_path / NFD / "train/good/1.png")
        save(tmp_path / NFC / "train/good/2.png")
        assert {one.category for one in find_samples(tmp_path)} == {NFC}

    def test_masks_and_kinds_are_found(self, tmp_path: Path) -> None:
        save(tmp_path / f"test/{NFD}/{NFC}.png", np.zeros((12, 16), np.uint8))
        save(tmp_path / f"ground_truth/{NFC}/{NFD}_mask.png", np.full((12, 16), 255, np.uint8))
        (one,) = find_samples(tmp_path)
        mask = load_mask(one, SPEC)
        assert mask is not None
        assert mask.all()

    def test_a_list_may_write_them_otherwise_than_the_disk(self, tmp_path: Path) -> None:
        picture = save(tmp_path / NFD / f"{NFD}.png")
        entry = {"image": f"{NFC}/{NFC}.png", "label": 0, "class_name": NFD}
        (tmp_path / "list.jsonl").write_text(json.dumps(entry))
        (one,) = find_samples(tmp_path / "list.jsonl")
        assert (one.path, one.category) == (picture, NFC)

    def test_a_picture_is_held_out_under_either(self) -> None:
        def held_out(name: str) -> list[int]:
            samples = [
                Sample(Path(f"{name}/good/{name} {i}.png"), NFC, "train", "good", (), False)
                for i in range(30)
            ]
            return [samples.index(one) for one in split_holdout(samples, 0.3)[1]]

        assert held_out(NFC) == held_out(NFD)

    def test_a_category_whose_name_is_no_text_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "Geh\udce4use"
        save(folder / "train/good/1.png")
        with pytest.raises(DataError, match="the name of a category must be UTF-8"):
            find_samples(tmp_path)


def test_several_places_are_one_data_set(tmp_path: Path) -> None:
    """Categories stay apart by name; one name in two places may be two products."""
    paths = [save(tmp_path / name / "train/good/1.png") for name in ("a/bolt", "b/nut")]
    place = Places([tmp_path / "a", tmp_path / "b"])
    assert [one.path for one in find_samples(place)] == paths
    assert str(place) == f"{tmp_path / 'a'}, {tmp_path / 'b'}"
    save(tmp_path / "b" / "bolt" / "train/good/1.png")
    with pytest.raises(DataError, match=r"category 'bolt': in .*a and in .*b; if they are one product"):
        find_samples(place)
