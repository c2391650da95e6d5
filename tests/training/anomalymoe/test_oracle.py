import numpy as np
import pytest
import torch

from tests import oracle
from tests.made import made_weight

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
