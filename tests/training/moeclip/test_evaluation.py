"""Figures of a MoECLIP run by class name, and thresholds from normal pictures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from export.contract.appearance import appearance
from export.contract.preprocess import fit
from tests.training.moeclip.tiny import tiny_config, tiny_detector, tiny_tokenizer
from tests.training.test_degraded_pictures import STRONG, Change
from tests.training.tiny_run import normal_pictures, quiet_progress, write_data
from training.data.dataset import find_samples
from training.data.pictures import DataError, load_mask, load_picture
from training.data.sets.reading import read_as
from training.metrics import auroc
from training.moeclip.calibration import add_classes
from training.moeclip.checkpoint import Checkpoint, RunConfig, load_run, save_run
from training.moeclip.evaluation import evaluate_run, protocol_json
from training.moeclip.model.maps import image_logits, image_score, margins, patch_logits, served_map
from training.moeclip.scoring import Domain, PictureScores, Ranking, Scorer, joined, ranking


@pytest.fixture
def run() -> Checkpoint[RunConfig]:
    config = tiny_config()
    return Checkpoint(config, tiny_detector(config.model), tiny_tokenizer(), {})


@pytest.fixture
def folder(run: Checkpoint[RunConfig], tmp_path: Path) -> Path:
    save_run(tmp_path / "run", run.config, run.model, run.tokenizer)
    return tmp_path / "run"


def test_scores_are_those_of_the_served_head(run: Checkpoint[RunConfig], pictures: Path) -> None:
    samples = find_samples(pictures)[:3]
    scorer = Scorer(run, ["disc"], "medical")
    found = joined(scorer.score_samples(samples, (20, 20), quiet_progress(), "score"))
    pixels = torch.from_numpy(np.stack([load_picture(one.path, run.config.input) for one in samples]))
    with torch.inference_mode():
        seen = run.model(run.model.normalise(pixels))
        text, medical = scorer.texts.of(["disc"] * 3), torch.ones(3, dtype=torch.bool)
        served = served_map(margins(patch_logits(seen.tokens, text)), medical, run.model.grid, (20, 20))
        score = image_score(served, image_logits(seen.summary, text), medical)
    torch.testing.assert_close(found.score, score)
    torch.testing.assert_close(found.margins.sigmoid(), served)
    torch.testing.assert_close(found.peak, served.amax((1, 2)))


def test_the_domain_decides(run: Checkpoint[RunConfig], pictures: Path) -> None:
    pixels = torch.from_numpy(load_picture(find_samples(pictures)[0].path, run.config.input))[None]
    industrial, medical = (
        Scorer(run, ["disc"], domain).score(pixels, ["disc"], (40, 40))
        for domain in ("industrial", "medical")
    )
    assert not torch.allclose(industrial.margins, medical.margins)
    torch.testing.assert_close(medical.score, medical.peak)
    assert not torch.allclose(industrial.score, industrial.peak)


def test_rows_by_class_name_and_their_mean(run: Checkpoint[RunConfig], pictures: Path) -> None:
    rows = evaluate_run(run, pictures, "industrial", quiet_progress())
    assert [(row.category, row.defects, row.pictures) for row in rows] == [
        ("disc", "all", 6),
        ("square", "all", 6),
        ("mean", "all", 12),
    ]
    test = [one for one in find_samples(pictures) if one.split == "test" and one.category == "disc"]
    found = joined(
        Scorer(run, ["disc"], "industrial").score_samples(test, (40, 40), quiet_progress(), "score")
    )
    labels = [one.is_anomalous for one in test]
    masks = np.stack([load_mask(one, run.config.input) for one in test])  # type: ignore[arg-type]
    ranking = ranked_by(found, "serving", "industrial").numpy()
    assert rows[0].metrics.image_auroc == pytest.approx(auroc(labels, ranking))
    assert rows[0].metrics.pixel_auroc == pytest.approx(auroc(masks, found.margins.numpy()))
    assert rows[2].metrics.aupro is not None


def test_a_run_without_experts_is_measured_too(pictures: Path) -> None:
    config = tiny_config({"moe": None})
    bare = Checkpoint[RunConfig](config, tiny_detector(config.model), tiny_tokenizer(), {})
    (row,) = evaluate_run(bare, pictures / "disc", "industrial", quiet_progress())
    assert row.metrics.pixel_auroc is not None


def test_json_says_how_it_was_measured(run: Checkpoint[RunConfig]) -> None:
    said = json.loads(json.dumps(protocol_json(run, "medical")))
    assert said == {"name": "serving", "size": [40, 40], "crop": 1.0, "domain": "medical"}


def ranked_by(found: PictureScores, by: Ranking, domain: Domain) -> torch.Tensor:
    return ranking(found.highest, found.logits, found.released, by, medical=domain == "medical")


def picture_scores(peaks: list[float], image: list[float]) -> PictureScores:
    """Pictures of two pixels, with the largest margin and the margin of the image token of each."""
    margins = torch.tensor(peaks)[:, None, None] * torch.tensor([[0.5, 1.0]])
    logits = torch.tensor([[0.0, margin] for margin in image])
    score = (margins.amax((1, 2)).sigmoid() + logits[:, 1].sigmoid()) / 2
    return PictureScores(score, margins.amax((1, 2)).sigmoid(), margins, margins[:, 0], logits, logits[:, 1])


@pytest.mark.parametrize("domain", ["industrial", "medical"])
@pytest.mark.parametrize("by", ["serving", "paper", "moeclip"])
def test_a_perfect_ranking_is_perfect_beyond_what_a_sigmoid_tells_apart(by: Ranking, domain: Domain) -> None:
    margins = [18.0, 20.0, 22.0, 30.0, 35.0, 40.0]
    found = picture_scores(margins, margins)
    labels = [False] * 3 + [True] * 3
    assert auroc(labels, found.score.numpy()) == 0.5  # all of them are 1 as float32
    assert auroc(labels, ranked_by(found, by, domain).numpy()) == 1.0


def test_the_ranking_is_that_of_the_served_score() -> None:
    rng = np.random.default_rng(0)
    peaks, image = rng.uniform(-9, 9, (2, 50)).tolist()
    found = picture_scores(peaks, image)
    ranked = ranked_by(found, "serving", "industrial")
    torch.testing.assert_close(ranked.sigmoid().float(), found.score)
    medical = ranked_by(found, "serving", "medical")
    torch.testing.assert_close(medical.sigmoid().float(), found.peak)


def test_the_paper_ranks_by_the_anomalous_text_alone(run: Checkpoint[RunConfig], pictures: Path) -> None:
    samples = find_samples(pictures / "disc")[:4]
    scorer = Scorer(run, ["disc"], "industrial")
    found = joined(scorer.score_samples(samples, (20, 20), quiet_progress(), "score"))
    pixels = torch.from_numpy(np.stack([load_picture(one.path, run.config.input) for one in samples]))
    with torch.inference_mode():
        summary = run.model(run.model.normalise(pixels)).summary
    cosine = torch.cosine_similarity(summary, scorer.texts.of(["disc"])[:, 1])
    torch.testing.assert_close(ranked_by(found, "paper", "industrial").float(), cosine)


def test_the_known_medical_data_sets_are_measured_as_such(run: Checkpoint[RunConfig], pictures: Path) -> None:
    industrial, medical, chosen = (
        evaluate_run(run, pictures / "disc", domain, quiet_progress())
        for domain in ("industrial", "medical", None)
    )
    assert chosen == industrial != medical
    with read_as("Brain MRI", {"disc": "disc"}):
        (row,) = evaluate_run(run, pictures / "disc", None, quiet_progress())
    assert row.metrics == medical[0].metrics
    assert row.dataset == "Brain MRI"


def test_classes_that_were_trained_on_are_told(
    run: Checkpoint[RunConfig], pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate_run(run, pictures / "disc", "industrial", quiet_progress())
    assert "not zero-shot" not in caplog.text
    evaluate_run(replace(run, trained_on=("disc", "nut")), pictures, "industrial", quiet_progress())
    assert "the run was trained on disc, which is not zero-shot" in caplog.text


def test_categories_that_share_a_description_have_rows_of_their_own(
    run: Checkpoint[RunConfig], pictures: Path
) -> None:
    plain = evaluate_run(run, pictures, "industrial", quiet_progress())
    with read_as(None, {"disc": "square"}):
        rows = evaluate_run(run, pictures, "industrial", quiet_progress())
    assert [row.category for row in rows] == ["disc", "square", "mean"]
    assert rows[0].metrics != plain[0].metrics
    assert rows[1].metrics == plain[1].metrics


def test_anomalous_pictures_alone_have_pixel_figures(
    run: Checkpoint[RunConfig], pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "disc", tmp_path / "polyp_set")
    shutil.rmtree(tmp_path / "polyp_set" / "test" / "good")
    (row,) = evaluate_run(run, tmp_path / "polyp_set", "medical", quiet_progress())
    assert row.category == "polyp set"
    assert row.metrics.image_auroc is None
    assert "image_auroc" not in row.intervals
    assert row.metrics.pixel_auroc is not None


def test_pictures_without_masks_have_image_figures(
    run: Checkpoint[RunConfig], pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "disc" / "test", tmp_path / "head" / "test")
    (row,) = evaluate_run(run, tmp_path / "head", "medical", quiet_progress())
    assert row.metrics.image_auroc is not None
    assert row.metrics.pixel_auroc is None


def test_test_pictures_are_needed(run: Checkpoint[RunConfig], pictures: Path) -> None:
    with pytest.raises(DataError, match="no test pictures"):
        evaluate_run(run, pictures / "disc" / "train" / "good", "industrial", quiet_progress())


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint[RunConfig]:
    """On forty discs."""
    root = tmp_path_factory.mktemp("calibrated")
    save_run(root / "run", tiny_config(), tiny_detector(), tiny_tokenizer())
    add_classes(root / "run", write_data(root / "data", train=40) / "disc", "industrial", quiet_progress())
    return load_run(root / "run")


def test_every_normal_picture_calibrates_its_class(folder: Path, pictures: Path) -> None:
    added = add_classes(folder, pictures, "industrial", quiet_progress())
    run = load_run(folder)
    assert list(run.class_scores) == list(added) == ["disc", "square"]
    normal = [one for one in find_samples(pictures / "disc") if one.split == "train"]
    found = joined(
        Scorer(run, ["disc"], "industrial").score_samples(normal, (40, 40), quiet_progress(), "score")
    )
    np.testing.assert_array_equal(run.class_scores["disc"].scores, np.sort(found.score.numpy()))
    np.testing.assert_array_equal(run.class_scores["disc"].peaks, np.sort(found.peak.numpy()))


@pytest.mark.parametrize("change", STRONG.values(), ids=STRONG)
def test_what_looks_unlike_the_pictures_that_calibrated_a_class_is_anomalous(
    calibrated: Checkpoint[RunConfig], change: Change
) -> None:
    scores = calibrated.class_scores["disc"]
    spec = calibrated.config.input
    for good in normal_pictures("disc", 8, first_seed=200):
        looks = [appearance(fit(Image.fromarray(one), spec)) for one in (good, change(good))]
        assert scores.evidence(looks[0]) <= scores.scores[-1] < scores.evidence(looks[1])


def test_a_class_of_the_same_name_is_replaced_others_stay(
    folder: Path, pictures: Path, tmp_path: Path
) -> None:
    add_classes(folder, pictures, "industrial", quiet_progress())
    before = load_run(folder).class_scores
    shutil.copytree(pictures / "square", tmp_path / "other" / "_Disc")
    add_classes(folder, tmp_path / "other", "medical", quiet_progress())
    after = load_run(folder).class_scores
    assert {name: one.medical for name, one in after.items()} == {"disc": True, "square": False}
    assert list(after) == ["disc", "square"]
    assert not np.array_equal(after["disc"].scores, before["disc"].scores)
    np.testing.assert_array_equal(after["square"].scores, before["square"].scores)


def test_normal_pictures_are_needed(folder: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "disc" / "test", tmp_path / "disc" / "test")
    with pytest.raises(DataError, match="no normal pictures"):
        add_classes(folder, tmp_path / "disc", "industrial", quiet_progress())
