"""Every data set of both papers, in miniature and in the form in which it is distributed."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.data.drawn import save
from tests.training.data.miniatures import (
    MINIATURES,
    SPEC,
    bmad,
    btad,
    head_ct,
    loco,
    mask,
    mvtec,
    mvtec_3d,
    mvtec_ad,
    paired,
    ped2,
    visa,
    write_csv,
)
from training.data.dataset import find_samples, split_holdout
from training.data.pictures import DataError, Sample, load_mask
from training.data.sets.known import KNOWN, find_known
from training.data.sets.mvtec import taken_for_good
from training.data.sets.reading import read_as


def counts(samples: list[Sample]) -> tuple[int, int, int, int]:
    found = [(one.split, one.is_anomalous) for one in samples]
    states = (("train", False), ("validation", False), ("test", False), ("test", True))
    return tuple(found.count(state) for state in states)  # type: ignore[return-value]


def test_every_known_set_has_its_miniature() -> None:
    assert sorted(name for name, *_ in MINIATURES) == sorted(one.name for one in KNOWN)
    assert sum(find_known(name).train or 0 for name in EIGHT) == 32_605  # type: ignore[union-attr]


def test_nine_sets_are_medical() -> None:
    assert sum(one.is_medical for one in KNOWN) == 9


EIGHT = ("mvtec_ad", "VisA", "mvtec_loco", "Ped2", "mvtec_ad_3d", "BrainMRI", "LiverCT", "RESC")


@pytest.mark.parametrize(
    ("name", "make", "category", "expected"), MINIATURES, ids=[one[0] for one in MINIATURES]
)
def test_a_miniature_loads_as_what_it_is(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    make: Callable[[Path], None],
    category: str,
    expected: tuple[int, int, int, int],
) -> None:
    make(tmp_path)
    samples = find_samples(tmp_path)
    assert {one.dataset for one in samples} == {name}
    members = [one for one in samples if one.category == category]
    assert counts(members) == expected
    marked = np.zeros((12, 16), bool)
    marked[3:9, 2:7] = True
    if name == "MVTec LOCO":
        marked[:2, 9:12] = True
    for one in members:
        found = load_mask(one, SPEC)
        if name == "Head CT":
            assert found is None if one.is_anomalous else not found.any()  # type: ignore[union-attr]
        else:
            np.testing.assert_array_equal(found, marked & one.is_anomalous)
    published = find_known(name)
    assert published is not None
    if published.normal is not None:
        assert f"not the whole of {name}" in caplog.text
        assert f"anomalous test pictures: {published.anomalous} published" in caplog.text


def test_a_whole_root_is_read_at_once(tmp_path: Path) -> None:
    """The folders of the AnomalyMoE release, of which BMAD holds three sets."""
    for make in (mvtec_ad, visa, loco, ped2, mvtec_3d):
        make(tmp_path / "data")
    for name in ("BrainMRI", "LiverCT", "RESC"):
        bmad(name)(tmp_path / "data/BMAD")
    samples = find_samples(tmp_path / "data")
    assert {one.dataset for one in samples} == {find_known(name).name for name in EIGHT}  # type: ignore[union-attr]
    assert {one.category for one in samples if one.dataset == "Retina OCT"} == {"RESC"}


def test_one_name_in_two_sets_is_refused(tmp_path: Path) -> None:
    mvtec(tmp_path / "first/tile")
    mvtec(tmp_path / "second/tile")
    with pytest.raises(DataError, match=r"category 'tile' lies in .*first and in .*second"):
        find_samples(tmp_path)


class TestMisreads:
    def test_ok_of_btad_is_good_whatever_else_is_not(self, tmp_path: Path) -> None:
        btad(tmp_path)
        assert {one.path.parent.name for one in find_samples(tmp_path) if not one.is_anomalous} == {"ok"}
        with taken_for_good(["good"]), read_as("BTAD", {}):
            assert {one.path.parent.name for one in find_samples(tmp_path) if one.is_anomalous} == {"ko"}

    def test_depth_and_masks_are_no_pictures(self, tmp_path: Path) -> None:
        mvtec_3d(tmp_path)
        bmad("RESC")(tmp_path)
        assert {one.path.parent.name for one in find_samples(tmp_path)} == {"rgb", "img"}

    def test_frames_of_ped2_without_masks_are_refused(self, tmp_path: Path) -> None:
        ped2(tmp_path)
        next(tmp_path.rglob("002.bmp")).unlink()
        with pytest.raises(DataError, match=r"002\.tif: its mask, which tells its label, is missing"):
            find_samples(tmp_path)

    def test_visa_without_its_split_is_refused(self, tmp_path: Path) -> None:
        visa(tmp_path)
        category = tmp_path / "VisA_20220922/pcb1"
        assert counts(find_samples(category)) == (2, 0, 1, 1)
        next(tmp_path.rglob("1cls.csv")).unlink()
        with pytest.raises(DataError, match=r"VisA needs the split .*1cls\.csv is missing"):
            find_samples(category)

    def test_lines_that_do_not_say_enough_are_named(self, tmp_path: Path) -> None:
        visa(tmp_path)
        write_csv(next(tmp_path.rglob("1cls.csv")), [["object", "split"], ["pcb1", "train"]])
        with pytest.raises(DataError, match=r"1cls\.csv:2: object, split .* are expected, got 'label'"):
            find_samples(tmp_path)
        head_ct(tmp_path / "second")
        write_csv(next(tmp_path.rglob("labels.csv")), [["id", "hemorrhage"], ["9", "1"]])
        with pytest.raises(DataError, match=r"labels\.csv:2: the number of a picture .* got \['9', '1'\]"):
            find_samples(tmp_path / "second")


class TestChosenByName:
    def test_a_folder_of_any_name_is_the_set_that_is_asked_for(self, tmp_path: Path) -> None:
        paired("pictures")(tmp_path)
        assert {one.dataset for one in find_samples(tmp_path)} == {""}
        with read_as("kvasir-seg", {}):
            assert {(one.dataset, one.description) for one in find_samples(tmp_path)} == {("Kvasir", "colon")}

    def test_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(DataError, match="data set 'mvtek' is none of MVTec-AD, "), read_as("mvtek", {}):
            pass

    def test_another_form_is_refused(self, tmp_path: Path) -> None:
        ped2(tmp_path)
        with (
            read_as("VisA", {}),
            pytest.raises(
                DataError, match=r"VisA is expected as split_csv/1cls\.csv .*, found Train/Train<n>"
            ),
        ):
            find_samples(tmp_path)

    def test_an_empty_folder_is_told_what_was_expected(self, tmp_path: Path) -> None:
        save(tmp_path / "img/1.png")
        with (
            read_as("Brain MRI", {}),
            pytest.raises(DataError, match=r"test/\{good,Ungood\}/\{img,label\}.*passed"),
        ):
            find_samples(tmp_path)

    def test_the_whole_set_is_taken_without_a_word(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(60):
            save(tmp_path / f"CVC-300/images/{number}.png", size=(2, 2))
            save(tmp_path / f"CVC-300/masks/{number}.png", size=(2, 2))
        with caplog.at_level(logging.WARNING):
            assert len(find_samples(tmp_path / "CVC-300")) == 60
        assert not caplog.text


class TestDescriptions:
    def test_boards_of_visa_share_one(self, tmp_path: Path) -> None:
        visa(tmp_path)
        assert {one.description for one in find_samples(tmp_path)} == {"printed circuit board"}
        with read_as(None, {"pcb1": "green board"}):
            assert {one.description for one in find_samples(tmp_path)} == {"green board"}

    def test_names_of_no_category_are_refused(self, tmp_path: Path) -> None:
        visa(tmp_path)
        with (
            read_as(None, {"pcb9": "board"}),
            pytest.raises(DataError, match="class names: no category pcb9"),
        ):
            find_samples(tmp_path)


def test_meta_json(tmp_path: Path) -> None:
    save(tmp_path / "a/good.png")
    save(tmp_path / "a/bad.png")
    mask(tmp_path / "a/bad_mask.png")
    entries = [
        {"img_path": "a/good.png", "mask_path": "", "cls_name": "nut", "specie_name": "good", "anomaly": 0},
        {
            "img_path": "a/bad.png",
            "mask_path": "a/bad_mask.png",
            "cls_name": "nut",
            "specie_name": "bent",
            "anomaly": 1,
        },
    ]
    (tmp_path / "meta.json").write_text(json.dumps({"train": {}, "test": {"nut": entries}}))
    samples = find_samples(tmp_path)
    assert [(one.category, one.kind, len(one.mask_paths)) for one in samples] == [
        ("nut", "good", 0),
        ("nut", "bent", 1),
    ]
    entries[0]["anomaly"] = 2
    (tmp_path / "meta.json").write_text(json.dumps({"test": {"nut": entries}}))
    with pytest.raises(DataError, match=r"meta\.json: test\.nut\.0\.anomaly: .* got 2"):
        find_samples(tmp_path)


def test_pictures_that_the_authors_held_out_are_held_out(tmp_path: Path) -> None:
    loco(tmp_path)
    normal = [one for one in find_samples(tmp_path) if one.split != "test"]
    kept, held_out = split_holdout(normal, 0.25)
    assert {one.split for one in kept} == {"train"}
    assert {one.split for one in held_out} == {"validation"}
