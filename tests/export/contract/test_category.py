from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from export.contract.appearance import STATISTICS
from export.contract.category import (
    Category,
    ClassScores,
    dump_categories,
    load_categories,
    parse_categories,
    parse_class_scores,
    save_categories,
)
from tests.tiny_bundle import tiny_category


def test_round_trip(tmp_path: Path):
    written = [tiny_category("brick"), replace(tiny_category("slate"), name="mvtec/slate")]
    save_categories(tmp_path / "categories.safetensors", written)
    read = load_categories(tmp_path / "categories.safetensors")
    assert set(read) == {"brick", "mvtec/slate"}
    for category in written:
        for field in fields(Category):
            before, after = getattr(category, field.name), getattr(read[category.name], field.name)
            np.testing.assert_array_equal(np.float32(before) if isinstance(before, float) else before, after)


def test_keys_are_name_and_field():
    tensors = load(dump_categories([tiny_category("brick")]))
    assert tensors["brick/centres"].shape == (2, 8)
    assert tensors["brick/radius"].shape == (1,)


def test_of_two_spellings_of_one_class_name_the_stricter_one_counts():
    low, high = np.array([0.1, 0.2], np.float32), np.array([0.1, 0.3], np.float32)
    for first, second in (("Metal disc", "metal_disc"), ("metal_disc", "Metal disc")):
        written = [ClassScores(first, low, low), ClassScores(second, high, high)]
        (kept,) = parse_class_scores(dump_categories(written)).items()
        assert (kept[0], kept[1].name) == ("metal disc", first)


def test_a_class_name_that_looks_were_counted_for_keeps_them():
    ramp, far = np.array([0.1, 0.2], np.float32), np.full(STATISTICS, 2, np.float32)
    mean, whitening = np.zeros(STATISTICS, np.float32), np.eye(STATISTICS, dtype=np.float32)
    counted = ClassScores("disc", ramp, ramp, appearance_mean=mean, appearance_whitening=whitening)
    (kept,) = parse_class_scores(dump_categories([counted])).values()
    assert kept.evidence(mean) == 0
    assert kept.evidence((far / 12).astype(np.float32)) == pytest.approx(0.2)
    assert kept.evidence(far) == 1
    assert ClassScores("disc", ramp, ramp).evidence(far) == 0
    with pytest.raises(ValueError, match="category 'disc': appearance_mean"):
        replace(counted, appearance_mean=np.zeros(3, np.float32))


def test_missing_tensor_is_named():
    tensors = load(dump_categories([tiny_category("brick")]))
    del tensors["brick/peaks"]
    with pytest.raises(ValueError, match="brick/peaks"):
        parse_categories(save(tensors))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("centres", np.zeros((0, 8), np.float32)),
        ("prototype", np.ones(8, np.float32)),
        ("radius", -0.1),
        ("radius", 0.0),
        ("appearance_mean", np.zeros(3, np.float32)),
        ("appearance_whitening", np.full((STATISTICS, STATISTICS), np.nan, np.float32)),
        ("distance_score", 0.0),
        ("error_scale", np.zeros((6, 4, 4), np.float32)),
        ("error_scale", np.ones((5, 4, 4), np.float32)),
        ("error_offset", np.ones(6, np.float32)),
        ("scores", np.array([2, 1], np.float32)),
        ("scores", np.array([np.nan], np.float32)),
        ("peaks", np.ones(3, np.float32)),
    ],
)
def test_malformed_field_is_named(field: str, value: object):
    with pytest.raises(ValueError, match=f"category 'brick': {field}"):
        replace(tiny_category("brick"), **{field: value})
