"""Products added to a trained detector: the same as those of `fit`, and the others stay."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from export.contract.category import Category
from export.contract.decision import nearest_category
from tests.training.conftest import Fitted
from tests.training.tiny_run import PRODUCTS, quiet_progress
from training.anomalymoe import products
from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.products import add_products
from training.data.pictures import DataError
from training.runs.files import CATEGORIES, WEIGHTS, CheckpointError, replace_categories


@pytest.fixture
def run(fitted: Fitted, tmp_path: Path) -> Path:
    """A copy of the run that may be changed."""
    return shutil.copytree(fitted.folder, tmp_path / "run")


def looks_like(category: Category, fitted: Fitted, name: str) -> bool:
    """Whether the category's pictures are nearest to those of the named product of the run."""
    nearest, _ = nearest_category(category.prototype, category.appearance_mean, fitted.categories.values())
    return nearest.name == name


def test_products_with_many_pictures_are_calibrated_as_by_fit(
    run: Path, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "FEW", 1)
    replace_categories(run, [])
    assert tuple(add_products(run, fitted.data, quiet_progress())) == PRODUCTS
    for name, category in load_checkpoint(run).categories.items():
        np.testing.assert_allclose(category.centres, fitted.categories[name].centres, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(category.scores, fitted.categories[name].scores, rtol=1e-4, atol=1e-5)


def test_of_few_pictures_all_calibrate(run: Path, fitted: Fitted) -> None:
    replace_categories(run, [])
    add_products(run, fitted.data, quiet_progress())
    for name, category in load_checkpoint(run).categories.items():
        pictures = list((fitted.data / name / "train" / "good").iterdir())
        assert len(category.scores) == len(pictures) > len(fitted.categories[name].scores)


def test_one_more_product_keeps_the_others(run: Path, fitted: Fitted, tmp_path: Path) -> None:
    data = shutil.copytree(fitted.data / "square", tmp_path / "ring")
    weights = (run / WEIGHTS).read_bytes()
    assert add_products(run, data, quiet_progress()) == ["ring"]
    categories = load_checkpoint(run).categories
    assert tuple(categories) == ("disc", "ring", "square")
    np.testing.assert_array_equal(categories["square"].scores, fitted.categories["square"].scores)
    assert looks_like(categories["ring"], fitted, "square")
    assert (run / WEIGHTS).read_bytes() == weights


def test_a_product_of_the_same_name_is_replaced(run: Path, fitted: Fitted, tmp_path: Path) -> None:
    data = shutil.copytree(fitted.data / "square", tmp_path / "disc")
    add_products(run, data, quiet_progress())
    categories = load_checkpoint(run).categories
    assert tuple(categories) == PRODUCTS
    assert looks_like(categories["disc"], fitted, "square")
    assert looks_like(fitted.categories["disc"], fitted, "disc")


def test_pictures_that_are_all_the_same_calibrate_nothing(run: Path, fitted: Fitted, tmp_path: Path) -> None:
    data = shutil.copytree(fitted.data / "square", tmp_path / "ring")
    first, *others = (data / "train" / "good").iterdir()
    for other in others:
        shutil.copy(first, other)
    with pytest.raises(DataError, match=r"category 'ring': its .* normal pictures are all the same"):
        add_products(run, data, quiet_progress())


def test_nothing_changes_when_it_cannot_be_done(run: Path, fitted: Fitted) -> None:
    before = (run / CATEGORIES).read_bytes()
    shutil.rmtree(run.parent / "data", ignore_errors=True)
    data = shutil.copytree(fitted.data, run.parent / "data")
    for product in PRODUCTS:
        shutil.rmtree(data / product / "train")
    with pytest.raises(DataError, match="no normal training pictures"):
        add_products(run, data, quiet_progress())
    assert (run / CATEGORIES).read_bytes() == before
    (run / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=WEIGHTS):
        add_products(run, fitted.data, quiet_progress())
