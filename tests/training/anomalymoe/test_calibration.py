"""Calibration: thresholds and scales of held-out pictures, centres and prototype of training pictures."""

import numpy as np
import pytest
import torch

from export.contract.appearance import appearance
from export.contract.category import Category
from tests.training.tiny_run import GRID, SIZE, Pictures, normal_pictures, tiny_checkpoint
from training.anomalymoe.calibration.calibrate import SCORE_MARGIN_OF_FEW, calibrate
from training.anomalymoe.calibration.knowledge import Knowledge, learn_product
from training.anomalymoe.calibration.scales import fit_scales as fit
from training.anomalymoe.model.component import fit_centres as cluster
from training.anomalymoe.model.component import stack_centres
from training.anomalymoe.model.detector import AnomalyMoE, Scene
from training.anomalymoe.model.head import Head
from training.anomalymoe.scoring import score_pictures

KEPT, HELD_OUT = normal_pictures("disc", 5), normal_pictures("disc", 18, first_seed=30)


@pytest.fixture(scope="module")
def detector() -> AnomalyMoE:
    return tiny_checkpoint().detector


@pytest.fixture(scope="module")
def known(detector: AnomalyMoE) -> Knowledge:
    return learn_product(detector, KEPT, components=4)


@pytest.fixture(scope="module")
def category(detector: AnomalyMoE, known: Knowledge) -> Category:
    return calibrate(detector, Head((SIZE, SIZE), GRID), "disc", known, HELD_OUT)


def directions(detector: AnomalyMoE, pictures: Pictures) -> torch.Tensor:
    """Unit cls tokens (n, D)."""
    cls = detector.encode(detector.normalise(torch.from_numpy(pictures))).cls
    return torch.nn.functional.normalize(cls, dim=1)


def test_the_prototype_is_the_mean_direction_of_the_training_pictures(
    detector: AnomalyMoE, known: Knowledge
) -> None:
    mean = directions(detector, KEPT).mean(0)
    np.testing.assert_allclose(known.prototype, mean / mean.norm(), atol=1e-5)
    assert np.linalg.norm(known.prototype) == pytest.approx(1, abs=1e-5)


def test_centres_lie_among_the_patches(detector: AnomalyMoE, known: Knowledge) -> None:
    assert known.centres.shape == (4, detector.encoder.width)
    patches = detector.encode(detector.normalise(torch.from_numpy(KEPT))).features[:, 1:].flatten(0, 1)
    assert (known.centres >= patches.amin(0).numpy() - 1e-4).all()
    assert (known.centres <= patches.amax(0).numpy() + 1e-4).all()


def test_learning_twice_gives_the_same(detector: AnomalyMoE, known: Knowledge) -> None:
    again = learn_product(detector, KEPT, components=4)
    np.testing.assert_array_equal(again.centres, known.centres)
    np.testing.assert_array_equal(again.prototype, known.prototype)


def test_what_was_learnt_is_kept(category: Category, known: Knowledge) -> None:
    assert category.name == "disc"
    np.testing.assert_array_equal(category.centres, known.centres)
    np.testing.assert_array_equal(category.prototype, known.prototype)


def test_every_calibration_picture_is_nearer_than_1_and_another_product_is_not(
    detector: AnomalyMoE, category: Category
) -> None:
    def distances(pictures: Pictures) -> list[float]:
        tokens = directions(detector, pictures).numpy()
        return [category.distance(*one) for one in zip(tokens, map(appearance, pictures), strict=True)]

    assert max(distances(np.concatenate([KEPT, HELD_OUT]))) < 1
    assert min(distances(normal_pictures("square", 4))) > 2


def test_held_out_pictures_are_scored_by_scales_that_they_had_no_part_in(
    detector: AnomalyMoE, category: Category
) -> None:
    """By the scales of all, in which each picture made its own places look normal, they score lower."""
    assert len(category.scores) == len(category.peaks) == len(HELD_OUT)
    result = score_pictures(
        detector, Head((SIZE, SIZE), GRID), torch.from_numpy(HELD_OUT), [category] * len(HELD_OUT)
    )
    assert category.scores.mean() > result.score.numpy().mean()
    assert category.peaks.mean() > result.map.amax((1, 2)).numpy().mean()


def errors_of(detector: AnomalyMoE, category: Category) -> np.ndarray:
    """Errors (n, E, h, w) of all experts on the held-out pictures."""
    image = detector.normalise(torch.from_numpy(HELD_OUT))
    features = detector.encode(image).features
    centres = stack_centres([category.centres] * len(HELD_OUT))
    masks = detector.component_masks(features, centres.values, centres.valid)
    with torch.no_grad():
        return detector.expert_errors(Scene(image, features, masks)).numpy()


def test_at_most_a_tenth_of_the_errors_is_above_the_offset(detector: AnomalyMoE, category: Category) -> None:
    calibrated = (errors_of(detector, category) - category.error_offset) / category.error_scale
    assert category.error_scale.shape == (5, *detector.encoder.grid)
    np.testing.assert_allclose((calibrated > 0).mean((0, 2, 3)), 0.1, atol=0.015)


def test_image_scores_of_every_expert_that_is_chosen_are_on_one_scale(
    detector: AnomalyMoE, category: Category
) -> None:
    """However large its errors are: 1 is what hardly a normal picture reaches."""
    calibrated = ((errors_of(detector, category) - category.error_offset) / category.error_scale).clip(min=0)
    scores = Head((SIZE, SIZE), GRID)(torch.from_numpy(calibrated)).level_scores.numpy()
    assert category.chosen is not None
    reached = (scores.mean(0) + 3 * scores.std(0))[category.chosen > 0]
    # Below 1 on the whole, since here each picture had a part in the scales.
    assert ((reached > 0.3) & (reached < 1.2)).all()


def test_in_the_papers_scoring_the_mean_error_of_every_expert_counts_1(
    detector: AnomalyMoE, known: Knowledge
) -> None:
    category = calibrate(detector, Head((SIZE, SIZE), GRID), "disc", known, HELD_OUT, "paper")
    assert not category.error_offset.any()
    mean = errors_of(detector, category).mean((0, 2, 3))
    np.testing.assert_allclose(
        category.error_scale, np.broadcast_to(mean[:, None, None], (5, *GRID)), rtol=1e-3
    )


def test_other_held_out_pictures_change_the_thresholds_and_nothing_that_was_learnt(
    detector: AnomalyMoE, known: Knowledge, category: Category
) -> None:
    other = calibrate(
        detector, Head((SIZE, SIZE), GRID), "disc", known, normal_pictures("disc", 18, first_seed=60)
    )
    assert not np.array_equal(other.scores, category.scores)
    np.testing.assert_array_equal(other.centres, category.centres)


def test_more_pictures_than_scales_need_add_their_scores_alone(
    detector: AnomalyMoE, known: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any number, a sample gives the scales; the others are scored by them as new pictures are."""
    monkeypatch.setattr("training.anomalymoe.calibration.calibrate.MOST_SCALED", 6)
    held_out = normal_pictures("disc", 20, first_seed=100)
    sizes: list[int] = []
    for user in ("calibrate", "scales"):
        monkeypatch.setattr(
            f"training.anomalymoe.calibration.{user}.fit_scales",
            lambda errors, *rest: sizes.append(len(errors)) or fit(errors, *rest),
        )
    found = calibrate(detector, Head((SIZE, SIZE), GRID), "disc", known, held_out)
    assert max(sizes) == 6
    assert len(found.scores) == len(found.peaks) == 20
    assert found.chosen is not None
    assert found.chosen.sum() == 20 * detector.config.router.top_k
    rows = np.random.default_rng(0).permutation(20) >= 6
    output = score_pictures(
        detector, Head((SIZE, SIZE), GRID), torch.from_numpy(held_out[rows]), [found] * 14
    )
    margin = 1 + SCORE_MARGIN_OF_FEW / 20
    for peak in output.map.amax((1, 2)).numpy() * margin:
        assert np.isclose(found.peaks, peak, rtol=1e-4, atol=1e-5).any()


def test_components_are_clusters_of_a_bounded_number_of_patches(
    detector: AnomalyMoE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.anomalymoe.calibration.knowledge.MOST_PATCHES", 40)
    numbers: list[int] = []
    monkeypatch.setattr(
        "training.anomalymoe.calibration.knowledge.fit_centres",
        lambda rows, *rest: numbers.append(len(rows)) or cluster(rows, *rest),
    )
    found = learn_product(detector, normal_pictures("disc", 20), 3)
    assert numbers == [40]
    assert (len(found.directions), len(found.appearances)) == (20, 20)
