import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import oracle, oracle_anomalymoe
from tests.made import made_weight
from tests.training.anomalymoe.tiny import released_layout
from training.anomalymoe.model.detector import AnomalyMoE

TINY = {
    "seed": 2,
    "embed_dim": 16,
    "num_heads": 2,
    "register_tokens": 0,
    "top_k": 1,
    "batch": 3,
    "components_per_image": 2,
    "depth": 10,
    "pos_embed_grid": 5,
}
COUNTS = ("patch_experts", "component_experts", "global_experts")

CASES = sorted(case.stem for case in oracle.FOLDER.glob("anomalymoe_*.json") if oracle.find_case(str(case)))


@pytest.mark.slow
@pytest.mark.skipif(not CASES, reason="no reference figures; set ANOMOE_ORACLE to their folder")
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_figures(case):
    path = oracle.find_case(case)
    assert path is not None
    errors = oracle.check("anomalymoe", path)
    assert len(errors) == 14
    assert {name: error for name, error in errors.items() if not error <= oracle.TOLERANCE} == {}


def test_missing_misshapen_and_undefined_arrays_never_pass():
    ours = {
        "a": torch.ones(2),
        "b": torch.ones(3),
        "c": torch.full((2,), torch.nan),
        "e": torch.tensor([1.1]),
    }
    figures = {name: np.ones(2, np.float32) for name in "abcd"} | {"e": np.array([1.0], np.float32)}
    errors = oracle.relative_errors(ours, figures)
    assert [name for name, error in errors.items() if error <= oracle.TOLERANCE] == ["a"]
    assert errors["e"] == pytest.approx(0.1)


def write_case(path: Path, monkeypatch: pytest.MonkeyPatch, **settings: int) -> Path:
    """A case with our own arrays as its figures; its weights' names and shapes are those of our model."""
    case = TINY | settings | {"parameters": {}}

    def layout(model: AnomalyMoE, _weights: object) -> None:
        case["parameters"] = {name: tuple(one.shape) for name, one in released_layout(model).items()}

    with monkeypatch.context() as patch:
        patch.setattr(oracle_anomalymoe, "load_released", layout)
        oracle_anomalymoe.build(oracle_anomalymoe.AnomalyMoECase.model_validate(case))
    path.with_suffix(".json").write_text(json.dumps(case))
    figures = oracle_anomalymoe.arrays(json.dumps(case))
    as_numpy: dict[str, Any] = {name: tensor.numpy() for name, tensor in figures.items()}
    np.savez(path.with_suffix(".npz"), **as_numpy)
    return path


@pytest.mark.parametrize(
    ("level", "side"),
    [("patch", 56), ("component", 56), pytest.param("global", 392, marks=pytest.mark.slow)],
)
def test_a_case_may_lack_levels(
    level: str, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {name: int(name.startswith(level)) for name in COUNTS}
    path = write_case(tmp_path / "case", monkeypatch, image_size=side, **counts)
    assert oracle.main(["anomalymoe", str(path)]) == 0
    with np.load(path.with_suffix(".npz")) as figures:
        assert len(figures) == 14
        for one in ("patch", "component", "global"):
            assert figures[f"level_{one}"].any() == (one == level)
            errors = figures[f"{one}_error_target" if one == "global" else f"{one}_error"]
            assert errors.size > 0 if one == level else errors.size == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 50}, "image_size"),
        ({"num_heads": 3}, "width must be a multiple of heads, got 16 and 3"),
        ({"component_experts": 2}, "12 missing: component_experts.1.decoder.1.bias"),
    ],
)
def test_an_impossible_case_says_why(
    change: dict[str, int],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = {"patch_experts": 1, "component_experts": 1, "global_experts": 0}
    path = write_case(tmp_path / "case", monkeypatch, image_size=28, **counts)
    case = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(case | change))
    assert oracle.main(["anomalymoe", str(path)]) == 1
    said = capsys.readouterr().err
    assert str(path) in said
    assert message in said


def test_made_weights_depend_on_seed_name_and_rank():
    matrix = made_weight(1, "x.weight", (200, 50))
    assert matrix.std().item() == pytest.approx(50**-0.5, rel=0.05)
    assert made_weight(1, "x.weight", (1000,)).mean().item() == pytest.approx(1.0, abs=0.02)
    assert made_weight(1, "x.bias", (1000,)).std().item() == pytest.approx(0.05, rel=0.1)
    assert not torch.equal(matrix, made_weight(2, "x.weight", (200, 50)))


def test_command_explains_wrong_use(capsys):
    assert oracle.main(["anomalymoe"]) == 2
    assert "usage: python -m tests.oracle" in capsys.readouterr().err
    assert oracle.main(["anomalymoe", "no-such-case"]) == 1
    assert "no case 'no-such-case'" in capsys.readouterr().err
