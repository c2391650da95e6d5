"""Sets whose labels stand in one file: `meta.json` of the zero-shot releases, `labels.csv` of Head CT."""

import csv
import json
from pathlib import Path

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from export.contract.names import Name
from training.data.sets.listing import by_stem, category_name, on_disk
from training.data.sets.samples import GOOD, DataError, Form, Sample, Split

_META, _LABELS = "meta.json", "labels.csv"


class _Entry(BaseModel):
    """One picture of a `meta.json`; paths are relative to it."""

    img_path: str = Field(min_length=1)
    mask_path: str = ""
    cls_name: Name = Field(min_length=1)
    specie_name: str = ""
    anomaly: int = Field(ge=0, le=1)


_META_FILE = TypeAdapter(dict[Split, dict[str, list[_Entry]]])


def _read_meta(folder: Path) -> list[Sample]:
    file = folder / _META
    try:
        splits = _META_FILE.validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{file}: {place}: {first['msg']}, got {first['input']!r}") from error
    return [
        _sample(folder, split, entry)
        for split, categories in splits.items()
        for entries in categories.values()
        for entry in entries
    ]


def _sample(folder: Path, split: Split, entry: _Entry) -> Sample:
    is_anomalous = entry.anomaly == 1
    kind = (entry.specie_name or "anomaly") if is_anomalous else GOOD
    masks = (on_disk(folder / entry.mask_path),) if is_anomalous and entry.mask_path else ()
    return Sample(on_disk(folder / entry.img_path), entry.cls_name, split, kind, masks, is_anomalous)


def _is_meta(folder: Path) -> bool:
    """Whether its `meta.json`, if there is one, is of this kind."""
    try:
        content = json.loads((folder / _META).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "test" in content


def _is_head_ct(folder: Path) -> bool:
    return (folder / _LABELS).is_file()


def _read_head_ct(folder: Path) -> list[Sample]:
    """Picture number and label (1: anomalous) in each line after the first; there are no masks."""
    file = folder / _LABELS
    pictures = {int(name): path for name, path in _numbered(folder).items()}
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row][1:]
    samples: list[Sample] = []
    for number, row in enumerate(rows, start=2):
        match row:
            case [name, ("0" | "1") as label] if name.isdecimal() and int(name) in pictures:
                kind = "anomaly" if label == "1" else GOOD
                path = pictures[int(name)]
                samples.append(
                    Sample(path, category_name(folder), "test", kind, (), is_anomalous=label == "1")
                )
            case _:
                raise DataError(
                    f"{file}:{number}: the number of a picture there and its label 0 or 1 expected, got {row}"
                )
    return samples


def _numbered(folder: Path) -> dict[str, Path]:
    stems = {path.stem: path for path in by_stem(folder).values()}
    return {name: path for name, path in stems.items() if name.isdecimal()}


META = Form(_META, _is_meta, _read_meta)
HEAD_CT = Form(f"{_LABELS} and pictures <number>.png", _is_head_ct, _read_head_ct)
