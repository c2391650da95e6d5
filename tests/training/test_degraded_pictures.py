"""Whatever makes a picture worse never makes it look more normal than every good calibration picture."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from export.contract.category import Category
from export.contract.decision import conformal_threshold
from tests.training.anomalymoe.tiny import tiny_model, vit_config
from tests.training.tiny_run import Pictures, normal_pictures, tiny_checkpoint
from training.anomalymoe.calibration.calibrate import calibrate, cross_calibrate
from training.anomalymoe.calibration.knowledge import learn_product
from training.anomalymoe.model.component import stack_centres
from training.anomalymoe.model.detector import AnomalyMoE, Scene
from training.anomalymoe.model.head import Head
from training.anomalymoe.scoring import judged

Change = Callable[[Pictures], Pictures]
PICTURES = 40


def noisy(picture: Pictures, deviation: float) -> Pictures:
    rng = np.random.default_rng(0)
    return (picture + rng.normal(0, deviation, picture.shape)).clip(0, 255).astype(np.uint8)


def blurred(picture: Pictures, radius: float) -> Pictures:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


STRONG: dict[str, Change] = {
    "half as bright": lambda one: (one * 0.5).astype(np.uint8),
    "30 % as bright": lambda one: (one * 0.3).astype(np.uint8),
    "bleached": lambda one: (128 + one * 0.5).astype(np.uint8),
    "grey": lambda one: np.asarray(Image.fromarray(one).convert("L").convert("RGB")),
    "black": np.zeros_like,
    "white": lambda one: np.full_like(one, 255),
    "noise alone": lambda one: np.random.default_rng(1).integers(0, 256, one.shape, np.uint8),
    "another product": lambda one: normal_pictures("square", 1, int(one[0, 0, 0]))[0][: len(one), : len(one)],
    "noisy": lambda one: noisy(one, 40),
    "blurred": lambda one: blurred(one, 4),
}
SLIGHT: dict[str, Change] = {
    "dimmed": lambda one: (one * 0.85).astype(np.uint8),
    "brighter": lambda one: (one * 1.2).clip(0, 255).astype(np.uint8),
    "shifted": lambda one: np.roll(one, 8, axis=1),
    "slightly blurred": lambda one: blurred(one, 1),
    "slightly noisy": lambda one: noisy(one, 8),
    "less contrast": lambda one: (60 + one * 0.7).astype(np.uint8),
}


def seen_by(detector: AnomalyMoE, pictures: Pictures) -> Pictures:
    height, width = detector.encoder.image_size
    return pictures[:, :height, :width]


def offline() -> AnomalyMoE:
    return tiny_checkpoint().detector


def dinov2() -> AnomalyMoE:
    return tiny_model(vit=vit_config()).eval()


@pytest.fixture(scope="module", params=[offline, dinov2])
def detector(request: pytest.FixtureRequest) -> AnomalyMoE:
    return request.param()


@pytest.fixture(scope="module")
def head(detector: AnomalyMoE) -> Head:
    return Head(detector.encoder.image_size, detector.encoder.grid)


@pytest.fixture(scope="module")
def category(detector: AnomalyMoE, head: Head) -> Category:
    known = learn_product(detector, seen_by(detector, normal_pictures("disc", PICTURES)), components=3)
    held_out = seen_by(detector, normal_pictures("disc", PICTURES, first_seed=100))
    return calibrate(detector, head, "disc", known, held_out)


def scores(detector: AnomalyMoE, head: Head, category: Category, pictures: Pictures) -> torch.Tensor:
    """As served: the larger of what the map and what the distance says."""
    seen = judged(detector, torch.from_numpy(pictures), [category] * len(pictures))
    return torch.maximum(head(seen.levels).score, seen.evidence)


@pytest.mark.parametrize("change", (STRONG | SLIGHT).values(), ids=STRONG | SLIGHT)
def test_no_change_makes_a_picture_more_normal_than_every_good_one(
    detector: AnomalyMoE, head: Head, category: Category, change: Change
) -> None:
    good = normal_pictures("disc", 8, first_seed=200)
    changed = np.stack([change(one) for one in seen_by(detector, good)])
    assert scores(detector, head, category, changed).min() >= category.scores[0]


@pytest.mark.parametrize("change", STRONG.values(), ids=STRONG)
def test_what_is_hardly_the_product_any_more_is_anomalous(
    detector: AnomalyMoE, head: Head, category: Category, change: Change
) -> None:
    good = normal_pictures("disc", 8, first_seed=200)
    changed = np.stack([change(one) for one in seen_by(detector, good)])
    assert scores(detector, head, category, changed).min() > conformal_threshold(category.scores, 0.01)


def test_experts_that_the_product_never_chose_are_not_hushed(
    detector: AnomalyMoE, category: Category
) -> None:
    """Of the product's own pictures their rarest errors reach 1, as those of a fully trusted expert."""
    assert category.chosen is not None
    unseen = category.chosen == 0
    assert unseen.any()
    image = detector.normalise(torch.from_numpy(seen_by(detector, normal_pictures("disc", PICTURES, 100))))
    features = detector.encode(image).features
    centres = stack_centres([category.centres] * PICTURES)
    scene = Scene(image, features, detector.component_masks(features, centres.values, centres.valid))
    with torch.no_grad():
        errors = detector.expert_errors(scene).numpy()
    calibrated = (errors - category.error_offset) / category.error_scale
    rarest = np.quantile(calibrated, 0.999, axis=(0, 2, 3))
    np.testing.assert_allclose(rarest[unseen], 1, atol=0.1)


@pytest.mark.parametrize("count", [2, 4, 40])
def test_few_pictures_keep_the_promise_on_both_tests_together(count: int) -> None:
    detector = offline()
    head = Head(detector.encoder.image_size, detector.encoder.grid)
    others = normal_pictures("disc", 60, first_seed=1000)
    shares = []
    for seed in range(4):
        pictures = normal_pictures("disc", count, first_seed=100 * seed)
        category = cross_calibrate(detector, head, "disc", pictures, components=3)
        assert len(category.scores) == count
        threshold = conformal_threshold(category.scores, 0.01)
        shares.append(float((scores(detector, head, category, others) > threshold).float().mean()))
    assert np.mean(shares) <= 1 / (count + 1)
