import numpy as np
import pytest
import torch

from training.demo.things.pairs import Pairs, draw_pair
from training.demo.tiny_clip.contrast import draw_batch, state_loss


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    drawn = [draw_pair(index, 0) for index in range(0, 60, 10)]
    return Pairs(np.stack([pictures for pictures, _ in drawn]), tuple(facts for _, facts in drawn))


def test_a_batch_holds_whole_things_then_their_twins(pairs: Pairs) -> None:
    known = {
        picture.tobytes(): (row, twin)
        for row, pair in enumerate(pairs.pictures)
        for twin, picture in enumerate(pair)
    }
    known |= {picture[:, ::-1].tobytes(): place for picture, place in _pictures(pairs)}
    batch = draw_batch(pairs, 4, np.random.default_rng(0))
    places = [known[picture.numpy().tobytes()] for picture in batch.pictures]
    assert [twin for _, twin in places] == [0, 0, 0, 0, 1, 1, 1, 1]
    rows = [row for row, _ in places]
    assert rows[:4] == rows[4:]
    assert len(set(rows)) == 4
    assert len(batch.true) == len(batch.false) == 8


def test_half_of_the_batches_are_mirrored_with_their_captions(pairs: Pairs) -> None:
    upright = {picture.tobytes() for picture, _ in _pictures(pairs)}
    batches = [draw_batch(pairs, 2, np.random.default_rng(seed)) for seed in range(40)]
    share = np.mean([batch.pictures[0].numpy().tobytes() in upright for batch in batches])
    assert 0.25 < share < 0.75


def test_the_state_loss_compares_with_twin_and_false_caption_alone() -> None:
    logits = torch.full((4, 8), 50.0)  # captions of other things do not count
    for row in range(4):
        logits[row, row], logits[row, (row + 2) % 4], logits[row, 4 + row] = 3.0, 1.0, 2.0
    expected = -torch.log_softmax(torch.tensor([3.0, 1.0, 2.0]), 0)[0]
    assert state_loss(logits).item() == pytest.approx(expected.item(), rel=1e-5)


def _pictures(pairs: Pairs) -> list[tuple[np.ndarray, tuple[int, int]]]:
    return [
        (picture, (row, twin)) for row, pair in enumerate(pairs.pictures) for twin, picture in enumerate(pair)
    ]
