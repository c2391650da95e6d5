"""The bundle that the service's tests use says what its words mean."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.contract.bundle import Bundle
from tests.tiny_zero_shot_bundle import ABNORMAL, NORMAL, SIZE, make_tiny_zero_shot_bundle, tiny_tokenizer


@pytest.fixture
def sessions(tmp_path: Path) -> dict[str, onnxruntime.InferenceSession]:
    bundle = Bundle.read(make_tiny_zero_shot_bundle(tmp_path / "clip"))
    return {
        key: onnxruntime.InferenceSession(bundle.graph_bytes(key), providers=["CPUExecutionProvider"])
        for key in bundle.manifest.graphs
    }


def run(session: onnxruntime.InferenceSession, **feeds: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(one) for one in session.run(None, feeds)]


def unit_mean(rows: np.ndarray) -> np.ndarray:
    mean = rows.mean(0)
    return mean / np.linalg.norm(mean)


def read(session: onnxruntime.InferenceSession, class_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Directions (2, E) and embedding (E,) of a class."""
    prompts = [prompt.replace("{}", class_name) for prompt in (*NORMAL, *ABNORMAL)]
    tokens = np.array([one.ids for one in tiny_tokenizer().encode_batch(prompts)], np.int64)
    features, embedding = run(session, tokens=tokens)
    return np.stack([unit_mean(features[:2]), unit_mean(features[2:])]), unit_mean(embedding)


def picture(spot: bool) -> np.ndarray:
    image = np.tile(np.array([200, 20, 40], np.uint8), (SIZE, SIZE, 1))
    if spot:
        image[8:24, 8:24] = 255
    return image


def test_a_spot_on_a_brick_is_seen_and_a_brick_is_a_brick(
    sessions: dict[str, onnxruntime.InferenceSession],
) -> None:
    image = np.stack([picture(spot=False), picture(spot=True)])
    tokens, summary, embedding = run(sessions["vision"], image=image)
    (brick, brick_name), (_, slate_name) = read(sessions["text"], "brick"), read(sessions["text"], "slate")
    assert (embedding @ brick_name > embedding @ slate_name).all()
    maps, scores = run(
        sessions["head"],
        tokens=tokens,
        summary=summary,
        rows=np.array([0, 1, 1]),
        text=np.stack([brick] * 3),
        medical=np.array([False, False, True]),
    )
    assert maps.shape == (3, SIZE, SIZE)
    assert (maps[0] < 0.5).all()
    assert scores[0] < 0.5 < scores[1]
    assert maps[1, 16, 16] > 0.5 > maps[1, 36, 36]
    assert scores[2] == maps[2].max() != maps[1].max()
