"""Every data set of both papers, in miniature and in the form in which it is distributed."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from tests.training.data.test_pictures import save, save_mask
from training.data.dataset import find_samples, split_holdout
from training.data.pictures import DataError, Sample, load_mask
from training.data.sets.known import KNOWN, find_known
from training.data.sets.mvtec import taken_for_good
from training.data.sets.reading import read_as

SPEC = InputSpec(height=12, width=16)
BOX = (2, 3, 7, 9)  # marked in every mask


def mask(path: Path) -> None:
    save_mask(path, BOX)


def black(path: Path) -> None:
    save(path, np.zeros((12, 16), np.uint8))


def mvtec(root: Path, *, good: str = "good", bad: str = "bad", suffix: str = "_mask.png") -> None:
    for place in (f"train/{good}/000.png", f"train/{good}/001.png", f"test/{good}/000.png"):
        save(root / place)
    save(root / f"test/{bad}/000.png")
    mask(root / f"ground_truth/{bad}/000{suffix}")


def mvtec_ad(root: Path) -> None:
    mvtec(root / "mvtec_anomaly_detection/tile")


def dtd(root: Path) -> None:
    mvtec(root / "DTD-Synthetic/Woven_001")


def btad(root: Path) -> None:
    mvtec(root / "BTech_Dataset_transformed/01", good="ok", bad="ko", suffix=".png")


def mvtec_ad2(root: Path) -> None:
    can = root / "mvtec_ad_2/can"
    for place in ("train/good/0.png", "train/good/1.png", "validation/good/0.png", "test_public/good/0.png"):
        save(can / place)
    save(can / "test_public/bad/0.png")
    mask(can / "test_public/ground_truth/bad/0_mask.png")
    for place in ("test_private/0.png", "test_private_mixed/0.png"):
        save(can / place)


def loco(root: Path) -> None:
    bag = root / "mvtec_loco_anomaly_detection/screw_bag"
    for place in ("train/good/0.png", "train/good/1.png", "validation/good/0.png", "test/good/0.png"):
        save(bag / place)
    save(bag / "test/logical_anomalies/000.png")
    mask(bag / "ground_truth/logical_anomalies/000/000.png")
    save_mask(bag / "ground_truth/logical_anomalies/000/001.png", (9, 0, 12, 2))


def mvtec_3d(root: Path) -> None:
    bagel = root / "mvtec_3d_anomaly_detection/bagel"
    for kind in ("train/good", "validation/good", "test/good", "test/crack"):
        save(bagel / kind / "rgb/000.png")
        Image.fromarray(np.zeros((12, 16), np.float32)).save(made(bagel / kind / "xyz/000.tiff"))
    save(bagel / "train/good/rgb/001.png")
    black(bagel / "test/good/gt/000.png")
    mask(bagel / "test/crack/gt/000.png")


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def visa(root: Path) -> None:
    rows = [["object", "split", "label", "image", "mask"]]
    for number, (split, label) in enumerate(
        (("train", "normal"), ("train", "normal"), ("test", "normal"), ("test", "anomaly"))
    ):
        image = f"pcb1/Data/Images/{'Anomaly' if label == 'anomaly' else 'Normal'}/{number:04d}.JPG"
        truth = f"pcb1/Data/Masks/Anomaly/{number:04d}.png" if label == "anomaly" else ""
        rows.append(["pcb1", split, label, image, truth])
        save(root / "VisA_20220922" / image)
        if truth:
            save_mask(root / "VisA_20220922" / truth, BOX, value=2)  # numbers of kinds of defects
    write_csv(root / "VisA_20220922/split_csv/1cls.csv", rows)


def write_csv(path: Path, rows: list[list[str]]) -> None:
    with made(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def bmad(name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for place in ("train/good/img/0.png", "train/good/img/1.png", "valid/good/img/0.png"):
            save(root / name / place)
        for split in ("valid", "test"):
            save(root / name / split / "Ungood/img/7.png")
            mask(root / name / split / "Ungood/label/7.png")
        save(root / name / "test/good/img/0.png")
        black(root / name / "test/good/label/0.png")

    return make


def ped2(root: Path) -> None:
    films = root / "UCSD_Anomaly_Dataset.v1p2/UCSDped2"
    for frame in ("Train/Train001/001.tif", "Train/Train001/002.tif", "Test/Test001/001.tif"):
        save(films / frame)
    save(films / "Test/Test001/002.tif")
    black(films / "Test/Test001_gt/001.bmp")
    mask(films / "Test/Test001_gt/002.bmp")


def rsdd(root: Path) -> None:
    for kind in ("Type-I", "Type-II"):
        folder = root / f"RSDDs dataset/{kind} RSDDs dataset"
        save(folder / "Rail surface images/rail_1.jpg")
        mask(folder / "GroundTruth/rail_1.png")


def head_ct(root: Path) -> None:
    for number in range(3):
        save(root / f"head_ct/head_ct/{number:03d}.png")
    write_csv(root / "head_ct/labels.csv", [["id", " hemorrhage"], ["0", "1"], ["1", "0"], ["2", "0"]])


def paired(
    name: str, pictures: str = "images", masks: str = "masks", suffix: str = "png"
) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        save(root / name / pictures / f"1.{suffix}")
        mask(root / name / masks / f"1.{suffix if suffix != 'jpg' else 'png'}")

    return make


# Name, miniature, category; pictures: good to train, good held out by authors, good and anomalous to test.
MINIATURES = [
    ("MVTec-AD", mvtec_ad, "tile", (2, 0, 1, 1)),
    ("MVTec AD 2", mvtec_ad2, "can", (2, 1, 1, 1)),
    ("MVTec LOCO", loco, "screw_bag", (2, 1, 1, 1)),
    ("MVTec 3D", mvtec_3d, "bagel", (2, 1, 1, 1)),
    ("VisA", visa, "pcb1", (2, 0, 1, 1)),
    ("Brain MRI", bmad("Brain_AD"), "Brain_AD", (2, 1, 1, 1)),
    ("Liver CT", bmad("LiverCT"), "LiverCT", (2, 1, 1, 1)),
    ("Retina OCT", bmad("RESC"), "RESC", (2, 1, 1, 1)),
    ("Ped2", ped2, "pedestrian", (2, 0, 1, 1)),
    ("BTAD", btad, "01", (2, 0, 1, 1)),
    ("RSDD", rsdd, "Type-I RSDDs dataset", (0, 0, 0, 1)),
    ("DTD-Synthetic", dtd, "Woven_001", (2, 0, 1, 1)),
    ("Head CT", head_ct, "head_ct", (0, 0, 2, 1)),
    ("ColonDB", paired("CVC-ColonDB"), "CVC-ColonDB", (0, 0, 0, 1)),
    ("ClinicDB", paired("CVC-ClinicDB", "Original", "Ground Truth", "tif"), "CVC-ClinicDB", (0, 0, 0, 1)),
    ("CVC-300", paired("CVC-300"), "CVC-300", (0, 0, 0, 1)),
    ("Endo", paired("EndoTect"), "EndoTect", (0, 0, 0, 1)),
    ("Kvasir", paired("Kvasir-SEG", suffix="jpg"), "Kvasir-SEG", (0, 0, 0, 1)),
]


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
