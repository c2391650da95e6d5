from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.demo.factory.folders import make_demo_data
from training.demo.factory.registry import PRODUCTS


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.png")}


def test_the_folder_form(tmp_path: Path) -> None:
    make_demo_data(tmp_path, train=2, test_good=1, test_defect=1, size=96, products=["board"])
    kinds = PRODUCTS["board"].kinds
    expected = {"board/train/good/000.png", "board/train/good/001.png", "board/test/good/000.png"}
    expected |= {f"board/test/{kind}/000.png" for kind in kinds}
    expected |= {f"board/ground_truth/{kind}/000_mask.png" for kind in kinds}
    assert set(contents(tmp_path)) == expected
    with Image.open(tmp_path / "board/train/good/000.png") as image:
        assert (image.mode, image.size) == ("RGB", (96, 96))
    with Image.open(tmp_path / "board/ground_truth/logical_missing/000_mask.png") as mask:
        assert (mask.mode, mask.size) == ("L", (96, 96))
        assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_bytes_depend_on_the_seed_and_not_on_the_number_of_pictures(tmp_path: Path) -> None:
    for folder, seed, count in (("few", 1, 1), ("many", 1, 3), ("other", 2, 1)):
        make_demo_data(
            tmp_path / folder,
            seed=seed,
            train=count,
            test_good=count,
            test_defect=0,
            size=96,
            products=["fabric"],
        )
    few, many, other = (contents(tmp_path / folder) for folder in ("few", "many", "other"))
    assert few == {name: many[name] for name in few}
    assert all(few[name] != other[name] for name in few)
    assert len(set(many.values())) == 6


def test_progress_counts_to_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    make_demo_data(
        tmp_path,
        train=1,
        test_good=1,
        test_defect=0,
        size=64,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(done, 6) for done in range(1, 7)]
    assert {path.name for path in tmp_path.iterdir()} == set(PRODUCTS)


def test_an_unknown_product_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'tile'"):
        make_demo_data(tmp_path, products=["board", "tile"])
    assert not list(tmp_path.iterdir())
