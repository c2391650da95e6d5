"""Bundles of kind `moeclip`: prompts, tokenizer, class scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.contract.bundle import Bundle, BundleError
from tests.export.contract.bundle.manifests import change_manifest
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle, tiny_normal_scores


@pytest.fixture
def zero_shot(tmp_path: Path) -> Path:
    return make_tiny_zero_shot_bundle(tmp_path / "clip", calibrated=("slate",))


def test_zero_shot_bundle_without_class_scores(tmp_path: Path):
    bundle = Bundle.read(make_tiny_zero_shot_bundle(tmp_path / "clip"))
    assert (bundle.categories, bundle.class_scores, bundle.manifest.experts) == ({}, {}, ())
    assert bundle.manifest.zero_shot is not None
    assert bundle.manifest.zero_shot.threshold == 0.5
    tokenizer = Tokenizer.from_str(bundle.file_bytes("tokenizer.json").decode())
    assert tokenizer.encode("A damaged brick").ids == [7, 1, 5, 2, 8, *[0] * 7]


def test_zero_shot_bundle_with_class_scores(zero_shot: Path):
    bundle = Bundle.read(zero_shot)
    assert (bundle.categories, list(bundle.class_scores)) == ({}, ["slate"])
    np.testing.assert_array_equal(bundle.class_scores["slate"].peaks, tiny_normal_scores("slate").peaks)


def test_class_names_of_older_bundles_are_found_by_their_canonical_form(tmp_path: Path):
    names = ("Metal_disc", "X-ray", "metal disc")
    bundle = Bundle.read(make_tiny_zero_shot_bundle(tmp_path / "clip", calibrated=names))
    assert list(bundle.class_scores) == ["metal disc", "x ray"]
    assert bundle.class_scores["x ray"].name == "X-ray"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(zero_shot=None), "zero_shot: belongs to kind 'moeclip'"),
        (lambda manifest: manifest["zero_shot"].update(normal=["whole"]), "'whole' has not exactly one {}"),
        (lambda manifest: manifest["zero_shot"].update(abnormal=[]), "zero_shot.abnormal"),
        (lambda manifest: manifest["zero_shot"].update(context_length=77), "context_length: 77, but"),
        (lambda manifest: manifest["files"].pop("tokenizer.json"), "tokenizer.json: not listed"),
        (lambda manifest: manifest.update(categories=["brick"]), r"holds \['slate'\], not \['brick'\]"),
    ],
)
def test_inconsistent_zero_shot_manifest_is_refused(
    zero_shot: Path, change: Callable[[dict[str, Any]], object], message: str
):
    change_manifest(zero_shot, change)
    with pytest.raises(BundleError, match=message):
        Bundle.read(zero_shot)


def test_changed_tokenizer_is_found(zero_shot: Path):
    (zero_shot / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json: has 2 bytes"):
        Bundle.read(zero_shot)


def test_prompts_belong_to_a_zero_shot_bundle(folder: Path):
    prompts = {"context_length": 12, "normal": ["{}"], "abnormal": ["damaged {}"]}
    change_manifest(folder, lambda manifest: manifest.update(zero_shot=prompts))
    with pytest.raises(BundleError, match="zero_shot: belongs to kind 'moeclip'"):
        Bundle.read(folder)
