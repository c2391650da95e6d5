"""Every figure worked out by hand on a few scores, then compared with scikit-learn on random ones."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from training.metrics import (
    Metrics,
    aupimo,
    aupro,
    auroc,
    average_precision,
    f1_max,
    interval,
    mean_metrics,
    resamples,
)

# Descending: 4+ 3- 2+ 2- 1- ; of the six pairs, 4 beats three, 2 beats one and ties one.
LABELS = [True, False, True, False, False]
SCORES = [4.0, 3.0, 2.0, 2.0, 1.0]


def sweep_aupro(masks: np.ndarray, maps: np.ndarray, limit: float) -> float:
    """The definition, one threshold after another: slow, and nothing shared with the module."""
    structure = np.zeros((3, 3, 3))
    structure[1] = 1
    regions = np.zeros(masks.shape, dtype=int)
    ndimage.label(masks, structure, output=regions)
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        rates.append(float(found[~masks].mean()))
        overlaps.append(float(np.mean([found[regions == n].mean() for n in range(1, regions.max() + 1)])))
    inside = int(np.sum(np.array(rates) <= limit))
    around = slice(inside - 1, inside + 1)
    end = float(np.interp(limit, rates[around], overlaps[around]))
    corners = pairwise([*zip(rates[:inside], overlaps[:inside], strict=True), (limit, end)])
    return sum((right - left) * (low + high) / 2 for (left, low), (right, high) in corners) / limit


class TestRankingFigures:
    def test_auroc_by_hand(self):
        assert auroc(LABELS, SCORES) == pytest.approx((3 + 1.5) / 6)

    def test_average_precision_by_hand(self):
        # Half the recall at precision 1, the other half at threshold 2 with two of four.
        assert average_precision(LABELS, SCORES) == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)

    def test_f1_max_by_hand(self):
        # Threshold 4: 2 * 1 / (1 + 2); threshold 2: 2 * 2 / (4 + 2). Both are 2 / 3.
        assert f1_max(LABELS, SCORES) == pytest.approx(2 / 3)
        assert f1_max([True, False, True, True], [4, 3, 2, 1]) == pytest.approx(6 / 7)

    @pytest.mark.parametrize("metric", [auroc, average_precision, f1_max])
    def test_perfect_order_scores_one(self, metric):
        assert metric([False, True, False, True], [0.1, 0.8, 0.3, 0.9]) == pytest.approx(1.0)

    def test_constant_scores_are_chance(self):
        labels = [True, False, False, False]
        assert auroc(labels, [5.0] * 4) == pytest.approx(0.5)
        assert average_precision(labels, [5.0] * 4) == pytest.approx(0.25)
        assert f1_max(labels, [5.0] * 4) == pytest.approx(0.4)

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=60).filter(
            lambda pairs: len({label for label, _ in pairs}) == 2
        )
    )
    def test_agrees_with_scikit_learn_with_many_ties(self, pairs):
        labels, scores = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs], float)
        precision, recall, _ = precision_recall_curve(labels, scores)
        total = precision + recall
        best = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0).max()
        assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
        assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores))
        assert f1_max(labels, scores) == pytest.approx(best)

    @pytest.mark.parametrize(("labels", "present"), [([True] * 3, "anomalous"), ([False] * 3, "normal")])
    def test_a_single_class_is_named(self, labels, present):
        with pytest.raises(ValueError, match=f"only the {present} class is present"):
            auroc(labels, [1.0, 2.0, 3.0])

    def test_nan_is_refused(self):
        with pytest.raises(ValueError, match="NaN"):
            auroc([True, False, False], [1.0, np.nan, 0.0])
        with pytest.raises(ValueError, match="NaN"):
            auroc([True, True, False], [1.0, np.nan, 0.0])

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
            auroc([True, False, True], [1.0, 2.0])

    def test_the_scores_of_the_caller_are_left_alone(self):
        scores = np.array([3.0, 1.0, 2.0, 0.0])
        auroc([False, False, True, False], scores)
        assert scores.tolist() == [3.0, 1.0, 2.0, 0.0]


class TestAupro:
    def test_by_hand(self):
        # Regions of one and of two pixels, five normal ones. Descending: the single pixel (overlap 1/2), a
        # normal one, half the pair (3/4), a normal one: 1/2 until rate 0.2, then 3/4 until the limit.
        masks = np.array([[[1, 0, 0, 0], [0, 0, 1, 1]]], dtype=bool)
        maps = np.array([[[8, 7, 1, 2], [3, 4, 6, 0]]], dtype=np.float32)
        assert aupro(masks, maps) == pytest.approx((0.2 * 0.5 + 0.1 * 0.75) / 0.3)

    def test_a_tie_of_both_classes_is_interpolated_at_the_limit(self):
        # The region ties with one of two normal pixels: overlap rises from 0 to 1 between rates 0 and 0.5.
        masks, maps = np.array([[[1, 0, 0]]], dtype=bool), np.array([[[1.0, 1.0, 0.0]]])
        assert aupro(masks, maps, limit=0.3) == pytest.approx(0.5 * 0.3 * 0.6 / 0.3)

    def test_small_regions_weigh_as_much_as_large_ones(self):
        masks = np.zeros((1, 10, 10), dtype=bool)
        masks[0, :5, :5], masks[0, 9, 9] = True, True
        maps = np.where(masks, 1.0, 0.5)
        maps[0, 9, 9] = 0.0
        assert aupro(masks, maps) == pytest.approx(0.5)

    def test_diagonal_neighbours_are_one_region(self):
        masks = np.zeros((1, 4, 5), dtype=bool)
        masks[0, 0, 0], masks[0, 1, 1], masks[0, 3, 4] = True, True, True
        maps = np.full((1, 4, 5), 0.5)
        maps[0, 0, 0], maps[0, 1, 1], maps[0, 3, 4] = 1.0, 0.0, 0.0
        assert aupro(masks, maps) == pytest.approx(0.25)

    @pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
    @pytest.mark.parametrize("levels", [4, 1000])
    def test_agrees_with_a_sweep_over_all_thresholds(self, limit, levels):
        generator = np.random.default_rng(levels)
        masks = ndimage.binary_dilation(generator.random((3, 12, 12)) > 0.97, np.ones((1, 2, 2)))
        maps = (generator.integers(0, levels, masks.shape) + masks * levels // 4).astype(np.float32)
        assert aupro(masks, maps, limit) == pytest.approx(sweep_aupro(masks, maps, limit))


class TestMeans:
    def test_mean_is_taken_over_the_known_figures(self):
        whole = Metrics(1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.5)
        images_only = Metrics(0.5, 0.6, 0.2, None, None, None, None)
        mean = mean_metrics([whole, images_only])
        assert (mean.image_auroc, mean.image_ap, mean.pixel_auroc, mean.aupro) == pytest.approx(
            (0.75, 0.7, 0.4, 0.5)
        )
        assert mean_metrics([images_only]).aupro is None


class TestBootstrapInterval:
    labels = np.arange(60) < 20
    scores = np.random.default_rng(3).normal(size=60) + labels

    def drawn(self, seed=0):
        return np.array(
            [auroc(self.labels[rows], self.scores[rows]) for rows in resamples(self.labels, 200, seed)]
        )

    def test_holds_the_figure_and_repeats_itself(self):
        low, high = interval(self.drawn())
        assert 0.5 < low < auroc(self.labels, self.scores) < high < 1.0
        assert (low, high) == interval(self.drawn())
        assert (low, high) != interval(self.drawn(seed=1))

    def test_a_higher_level_is_wider(self):
        narrow, wide = interval(self.drawn(), level=0.5), interval(self.drawn(), level=0.99)
        assert wide[0] < narrow[0] < narrow[1] < wide[1]

    def test_keeps_the_share_of_each_class(self):
        assert {self.labels[rows].mean() for rows in resamples(self.labels, 20)} == {1 / 3}
        assert all(len(rows) == 4 for rows in resamples([True] * 4, 3))


class TestAUPIMO:
    """Two pictures without a mark and two with; rates of a tenth to one half, so that few pixels suffice."""

    RATES = (0.1, 0.5)

    @staticmethod
    def pictures() -> tuple[np.ndarray, np.ndarray]:
        maps = np.random.default_rng(0).normal(size=(4, 10, 10))
        masks = np.zeros(maps.shape, bool)
        masks[2, :4, :4], masks[3, 5:, 5:] = True, True
        maps[masks] += 1
        return masks, maps

    def test_it_is_the_integral_over_the_logarithm_of_the_rate(self) -> None:
        masks, maps = self.pictures()
        normal = np.sort(maps[:2].ravel())[::-1]
        rates = np.exp(np.linspace(np.log(0.1), np.log(0.5), 20_001))
        areas = []
        for picture in (2, 3):
            found = maps[picture][masks[picture]]
            shares = [(found > normal[int(rate * normal.size)]).mean() for rate in rates]
            areas.append(np.mean(shares))
        assert aupimo(masks, maps, self.RATES) == pytest.approx(np.mean(areas), abs=2e-3)

    def test_every_picture_counts_alike(self) -> None:
        masks, maps = self.pictures()
        maps[3][masks[3]] = 99
        maps[2][masks[2]] = -99
        assert aupimo(masks, maps, self.RATES) == 0.5

    def test_false_alarms_on_anomalous_pictures_do_not_count(self) -> None:
        masks, maps = self.pictures()
        before = aupimo(masks, maps, self.RATES)
        maps[2:][~masks[2:]] = 99
        assert aupimo(masks, maps, self.RATES) == before

    def test_both_kinds_of_pictures_are_needed(self) -> None:
        masks, maps = self.pictures()
        for chosen in (slice(2), slice(2, 4)):
            with pytest.raises(ValueError, match="with and without a marked pixel"):
                aupimo(masks[chosen], maps[chosen])
