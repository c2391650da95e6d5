"""Answers: maps as files and arrays, fields that are new."""

from base64 import b64encode
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from stub_server import ANSWER

from anomoe_client import AnomalyMap, Detection
from anomoe_client.reading import ReadError, read, read_json


def test_a_map_is_an_array_or_a_file() -> None:
    scores = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    file = BytesIO()
    np.save(file, scores)
    answered = AnomalyMap(encoding="npy", width=4, height=3, data=b64encode(file.getvalue()).decode())
    assert np.array_equal(answered.array(), scores)
    assert answered.file() == file.getvalue()
    with pytest.raises(ValueError, match="'npy', got 'png'"):
        replace(answered, encoding="png").array()


def test_an_array_is_not_unpickled() -> None:
    file = BytesIO()
    np.save(file, np.array([{}], dtype=object))
    answered = AnomalyMap(encoding="npy", width=1, height=1, data=b64encode(file.getvalue()).decode())
    with pytest.raises(ValueError, match="pickle"):
        answered.array()


def test_fields_that_are_new_are_passed_over_and_may_be_missing() -> None:
    told = {**ANSWER, "request_id": "1"}
    assert read(Detection, {**told, "weather": "fine"}) == read(Detection, told)
    assert read(Detection, {name: value for name, value in told.items() if name != "verdict"}).verdict is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"alpha": "0.1"}, "alpha: float is expected, got '0.1'"),
        ({"is_anomalous": 1}, "is_anomalous: bool is expected, got 1"),
        ({"batch_size": True}, "batch_size: int is expected, got True"),
        ({"regions": None}, "regions: list is expected, got None"),
        ({"regions": [{"x": 1.5}]}, r"regions\[0\].x: int is expected, got 1.5"),
        ({"levels": {"patch": {"score": 1}}}, "levels.patch.weight is missing"),
        ({"timings_ms": {"total": None}}, "timings_ms.total: float is expected, got None"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, object], reason: str) -> None:
    with pytest.raises(ReadError, match=f"^{reason}$"):
        read(Detection, {**ANSWER, "request_id": "1", **changed})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_named(content: bytes) -> None:
    with pytest.raises(ReadError, match=r"no JSON|the answer: dict is expected"):
        read_json(Detection, content)
