"""UCSD Ped2: frames of films; a frame is anomalous where its mask marks something.

`Train/Train001/*.tif`, `Test/Test001/*.tif`, `Test/Test001_gt/*.bmp`.
"""

from pathlib import Path

from PIL import Image

from training.data.sets.listing import by_stem, folders_in, key, named, pictures_in
from training.data.sets.samples import GOOD, DataError, Form, Sample

_CATEGORY = "pedestrian"
_TRUTH = "_gt"


def _films(folder: Path, split: str) -> list[Path]:
    return [
        film
        for place in named(folder, split)
        for film in folders_in(place)
        if key(film.name).startswith(split) and not key(film.name).endswith(_TRUTH)
    ]


def _fits(folder: Path) -> bool:
    return any(key(film.name).removeprefix("test").isdecimal() for film in _films(folder, "test"))


def _read(folder: Path) -> list[Sample]:
    train = [
        Sample(frame, _CATEGORY, "train", GOOD, (), is_anomalous=False, subfolder=film.name)
        for film in _films(folder, "train")
        for frame in pictures_in(film)
    ]
    return train + [sample for film in _films(folder, "test") for sample in _read_film(film)]


def _read_film(film: Path) -> list[Sample]:
    truth = named(film.parent, film.name + _TRUTH)
    masks = {name: path for folder in truth for name, path in by_stem(folder).items()}
    samples: list[Sample] = []
    for frame in pictures_in(film):
        mask = masks.get(frame.stem)
        if mask is None:
            raise DataError(f"{frame}: its mask, which tells its label, is missing in {film}{_TRUTH}")
        is_anomalous = _marks(mask)
        kind, own = ("anomaly", (mask,)) if is_anomalous else (GOOD, ())
        samples.append(Sample(frame, _CATEGORY, "test", kind, own, is_anomalous, subfolder=film.name))
    return samples


def _marks(mask: Path) -> bool:
    try:
        with Image.open(mask) as image:
            return image.getbbox() is not None
    except OSError as error:
        raise DataError(f"{mask}: cannot be read as a picture: {error}") from error


PED2 = Form("Train/Train<n>, Test/Test<n> and Test/Test<n>_gt", _fits, _read)
