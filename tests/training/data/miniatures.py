"""Every known data set in miniature, as its authors lay it out."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from export.contract.manifest import InputSpec
from tests.training.data.drawn import save, save_mask

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
