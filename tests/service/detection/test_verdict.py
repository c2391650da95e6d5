"""Verdicts on class names."""

import pytest

from service.detection.verdict import Verdict


@pytest.mark.parametrize(
    ("score", "threshold", "is_anomalous"),
    [(0.6, 0.5, True), (0.5, 0.5, False), (0.99, 1.0, False), (1.0, 1.0, True)],
)
def test_a_score_that_nothing_exceeds_is_anomalous(
    score: float, threshold: float, is_anomalous: bool
) -> None:
    assert Verdict("disc", score, threshold, 0.5, is_calibrated=True).is_anomalous is is_anomalous
