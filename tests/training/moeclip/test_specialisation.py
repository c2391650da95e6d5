"""In a real training the ETF loss parts the experts, and the balance loss evens their use."""

from pathlib import Path

import pytest

from tests.training.moeclip.specialisation import Specialisation, specialisation

STEPS = 150


@pytest.fixture(scope="module")
def without(pictures: Path) -> Specialisation:
    return specialisation(pictures, 0.0, 0.0, STEPS)


def test_etf_loss_lowers_the_similarity_of_experts(pictures: Path, without: Specialisation) -> None:
    found = specialisation(pictures, 1.0, 0.0, STEPS)
    assert found.similarity < without.similarity - 0.05


def test_balance_loss_evens_their_use(pictures: Path, without: Specialisation) -> None:
    found = specialisation(pictures, 0.0, 1.0, STEPS)
    assert found.imbalance < 0.8 * without.imbalance
