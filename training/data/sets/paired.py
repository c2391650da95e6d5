"""One folder of pictures with defects and one of their masks, nothing normal: the polyp sets, and RSDD.

`images` and `masks` (ColonDB, CVC-300, Endo, Kvasir), `Original` and `Ground Truth` (ClinicDB), `Rail surface
images` and `GroundTruth` (each type of RSDD).
"""

from pathlib import Path

from training.data.sets.listing import by_stem, category_name, named, pictures_in, stem
from training.data.sets.samples import Form, Sample

_PICTURES = ("images", "original", "rail surface images")
_MASKS = ("masks", "ground truth", "groundtruth")


def _fits(folder: Path) -> bool:
    return bool(named(folder, *_PICTURES) and named(folder, *_MASKS))


def _read(folder: Path) -> list[Sample]:
    masks = {name: path for place in named(folder, *_MASKS) for name, path in by_stem(place).items()}
    return [
        Sample(path, category_name(folder), "test", "anomaly", (mask,) if mask else (), is_anomalous=True)
        for place in named(folder, *_PICTURES)
        for path in pictures_in(place)
        for mask in [masks.get(stem(path, place))]
    ]


PAIRED = Form("images and masks (or Original and Ground Truth)", _fits, _read)
