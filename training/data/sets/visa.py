"""VisA as in its archive: `<category>/Data/Images/{Normal,Anomaly}`, and a CSV that tells the split."""

import csv
from pathlib import Path

from export.contract.names import composed
from training.data.sets.listing import category_name, named
from training.data.sets.samples import GOOD, DataError, Form, Sample, Split

_SPLITS: dict[str, Split] = {"train": "train", "test": "test"}
_LABELS = {"normal": False, "anomaly": True}
_CSV = "split_csv/1cls.csv"


def _is_category(folder: Path) -> bool:
    return any(named(data, "Images") for data in named(folder, "Data"))


def _fits(folder: Path) -> bool:
    return _is_category(folder) or (folder / _CSV).is_file()


def _read(folder: Path) -> list[Sample]:
    """The whole set, or one category of it, whose CSV then lies beside its folder."""
    root = folder.parent if _is_category(folder) else folder
    file = root / _CSV
    if not file.is_file():
        raise DataError(f"{folder}: VisA needs the split of its pictures, {file} is missing")
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    wanted = None if root == folder else category_name(folder)
    samples = [_sample(file, number, row) for number, row in enumerate(rows, start=2)]
    return [one for one in samples if wanted in (None, one.category)]


def _sample(file: Path, number: int, row: dict[str, str]) -> Sample:
    try:
        split, is_anomalous = _SPLITS[row["split"]], _LABELS[row["label"]]
        category, image, mask = composed(row["object"]), row["image"], row["mask"]
    except KeyError as error:
        raise DataError(
            f"{file}:{number}: object, split (train, test), label (normal, anomaly), image and mask are "
            f"expected, got {error} in {row}"
        ) from error
    root = file.parents[1]
    masks = (root / mask,) if is_anomalous and mask else ()
    return Sample(
        root / image, category, split, "anomaly" if is_anomalous else GOOD, masks, is_anomalous=is_anomalous
    )


VISA = Form(f"{_CSV} and <category>/Data/Images/{{Normal,Anomaly}}", _fits, _read)
