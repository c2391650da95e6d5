"""Answers: maps as files and arrays, fields that are new."""

from base64 import b64encode
from io import BytesIO

import numpy as np
import pytest
from stub_server import ANSWER

from anomoe_client import AnomalyMap, Detection


def test_a_map_is_an_array_or_a_file() -> None:
    scores = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    file = BytesIO()
    np.save(file, scores)
    answered = AnomalyMap(encoding="npy", width=4, height=3, data=b64encode(file.getvalue()).decode())
    assert np.array_equal(answered.array(), scores)
    assert answered.file() == file.getvalue()
    with pytest.raises(ValueError, match="'npy', got 'png'"):
        answered.model_copy(update={"encoding": "png"}).array()


def test_an_array_is_not_unpickled() -> None:
    file = BytesIO()
    np.save(file, np.array([{}], dtype=object))
    answered = AnomalyMap(encoding="npy", width=1, height=1, data=b64encode(file.getvalue()).decode())
    with pytest.raises(ValueError, match="pickle"):
        answered.array()


def test_fields_that_are_new_are_kept_and_may_be_missing() -> None:
    answer = Detection.model_validate({**ANSWER, "request_id": "1", "weather": "fine"})
    assert answer.model_dump()["weather"] == "fine"
    older = {name: value for name, value in ANSWER.items() if name != "verdict"}
    assert Detection.model_validate({**older, "request_id": "1"}).verdict is None
