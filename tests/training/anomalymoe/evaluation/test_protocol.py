"""Protocols of evaluation: each changes what it says and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch.nn import functional as F

from export.contract.manifest import LEVELS
from tests.training.conftest import Fitted
from tests.training.tiny_run import GRID, PRODUCTS, SIZE, quiet_progress
from training.anomalymoe.checkpoint import Checkpoint, load_checkpoint
from training.anomalymoe.evaluation.evaluate import evaluate_checkpoint, rows_table, score_samples
from training.anomalymoe.evaluation.protocol import PAPER_CROP, Protocol, min_max, prepared, value_range
from training.anomalymoe.model.component import stack_centres
from training.anomalymoe.model.head import Head
from training.data.component_masks import component_masks
from training.data.dataset import find_samples
from training.data.pictures import DataError, Sample, load_pixels

CELL = SIZE // GRID[0]


@pytest.fixture(scope="module")
def checkpoint(fitted: Fitted) -> Checkpoint:
    return load_checkpoint(fitted.folder)


@pytest.fixture
def samples(fitted: Fitted) -> list[Sample]:
    """The test pictures of one product."""
    return [one for one in find_samples(fitted.data / "disc") if one.split == "test"]


def write_masks(folder: Path, samples: list[Sample], labels: np.ndarray) -> Path:
    for one in samples:
        path = folder / one.category / one.split / one.kind / f"{one.path.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
    return folder


def quarters() -> np.ndarray:
    """Four components with the numbers 3, 7, 9, 200, and none in the left column of patches."""
    labels = np.zeros((SIZE, SIZE), np.uint8)
    half = SIZE // 2
    labels[:half, :half], labels[:half, half:], labels[half:, :half], labels[half:, half:] = 3, 7, 9, 200
    labels[:, :CELL] = 0
    return labels


def test_masks_come_from_files_on_the_patch_grid(
    checkpoint: Checkpoint, samples: list[Sample], tmp_path: Path
) -> None:
    write_masks(tmp_path, samples, quarters())
    write_masks(tmp_path, samples[:1], np.full((SIZE, SIZE), 5, np.uint8))
    write_masks(tmp_path, samples[1:2], np.zeros((SIZE, SIZE), np.uint8))
    masks = component_masks(tmp_path, samples, checkpoint.config.input, GRID)
    assert masks.shape == (len(samples), 4, *GRID)
    assert masks.sum((2, 3))[:3].tolist() == [[36, 0, 0, 0], [0, 0, 0, 0], [6, 9, 6, 9]]
    assert not masks[2, :, :, 0].any()


def test_masks_are_cropped_as_the_picture_is(
    checkpoint: Checkpoint, samples: list[Sample], tmp_path: Path
) -> None:
    labels = np.full((SIZE, SIZE), 2, np.uint8)
    labels[12:36, 12:36] = 1
    write_masks(tmp_path, samples[:1], labels)
    spec = checkpoint.config.input.model_copy(update={"crop": 0.5})
    assert component_masks(tmp_path, samples[:1], spec, GRID).tolist() == torch.ones(1, 1, *GRID).tolist()


def test_a_picture_without_its_masks_is_named(
    checkpoint: Checkpoint, samples: list[Sample], tmp_path: Path
) -> None:
    spec = checkpoint.config.input
    with pytest.raises(DataError, match=r"disc/test/good/0\.png: cannot be read"):
        component_masks(tmp_path, samples[:1], spec, GRID)
    write_masks(tmp_path, samples[:1], np.zeros((SIZE, SIZE, 3), np.uint8))
    with pytest.raises(DataError, match=r"good/0\.png: holds 3 values a pixel, one is expected"):
        component_masks(tmp_path, samples[:1], spec, GRID)
    write_masks(tmp_path, samples[:1], np.zeros((SIZE, 20), np.uint8))
    with pytest.raises(DataError, match=r"good/0\.png: is \(20, 48\), its picture .* is \(48, 48\)"):
        component_masks(tmp_path, samples[:1], spec, GRID)


def write_released(folder: Path, kind: str, number: int, parts: list[np.ndarray]) -> None:
    for i, part in enumerate(parts):
        path = folder / "disc_heat_448" / kind / str(number) / f"heatresult{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part).save(path, quality=95)


def part_of(rows: slice, columns: slice, value: int = 255) -> np.ndarray:
    pixels = np.zeros((448, 448), np.uint8)
    pixels[rows, columns] = value
    return pixels


def test_masks_of_the_release_are_read_as_they_are(
    checkpoint: Checkpoint, samples: list[Sample], tmp_path: Path
) -> None:
    """Of four parts one is dark in the first training picture, and one touches all corners."""
    left, right = part_of(slice(75, 373), slice(0, 224)), part_of(slice(75, 373), slice(224, None))
    whole, dark = part_of(slice(None), slice(None)), part_of(slice(75, 373), slice(0, 224), 40)
    write_released(tmp_path, "train/good", 0, [left, whole, dark, right])
    chosen = [one for one in samples if one.kind == samples[0].kind]
    for number, _ in enumerate(chosen):
        write_released(tmp_path, f"test/{chosen[0].kind}", number, [left, whole, dark, right])
    masks = component_masks(tmp_path, chosen, checkpoint.config.input, GRID)
    assert masks.shape == (len(chosen), 2, *GRID)
    expected = np.zeros((2, *GRID), bool)
    expected[0, 1:-1, : GRID[1] // 2] = True
    expected[1, 1:-1, GRID[1] // 2 :] = True
    for one in masks:
        np.testing.assert_array_equal(one.numpy(), expected)
    write_released(tmp_path, "train/good", 0, [dark] * 4)
    with pytest.raises(DataError, match=r"heatresult4\.jpg: cannot be read as a component mask"):
        component_masks(tmp_path, chosen, checkpoint.config.input, GRID)


def test_masks_change_the_component_level_alone(
    checkpoint: Checkpoint, samples: list[Sample], tmp_path: Path
) -> None:
    raw = Protocol(normalise="test-minmax")
    plain = score_samples(checkpoint, samples, quiet_progress(), raw)
    masks = write_masks(tmp_path, samples, quarters())
    masked = score_samples(checkpoint, samples, quiet_progress(), replace(raw, masks=masks))
    np.testing.assert_array_equal(masked.level_scores[:, [0, 2]], plain.level_scores[:, [0, 2]])
    assert np.abs(masked.level_scores[:, 1] - plain.level_scores[:, 1]).max() > 1e-3


def test_min_max_is_of_each_level_over_all_pictures() -> None:
    levels = torch.rand(5, 3, *GRID, generator=torch.Generator().manual_seed(0)) + 1
    levels[:, 2] = 4
    ends = value_range(levels.split(2))
    scaled = min_max(levels, ends)
    assert scaled.amin((0, 2, 3)).tolist() == [0, 0, 0]
    assert scaled.amax((0, 2, 3)).tolist() == [1, 1, 0]
    torch.testing.assert_close(scaled[:, 0].flatten().argsort(), levels[:, 0].flatten().argsort())
    stretched = 7 * levels - 3
    again = min_max(stretched, value_range([stretched]))
    torch.testing.assert_close(again[:, :2], scaled[:, :2])


def test_test_minmax_looks_at_the_other_test_pictures(checkpoint: Checkpoint, samples: list[Sample]) -> None:
    raw = Protocol(normalise="test-minmax")
    alone = score_samples(checkpoint, samples[:1], quiet_progress(), raw)
    among = score_samples(checkpoint, samples, quiet_progress(), raw)
    assert abs(alone.scores[0] - among.scores[0]) > 1e-3
    assert max(one.max() for one in among.maps) <= 3


def test_the_released_protocol_weighs_by_the_largest_gate_of_a_level(
    checkpoint: Checkpoint, samples: list[Sample]
) -> None:
    """The map as `docs/datasets.md` tells it, step by step, from the errors of the chosen experts."""
    pixels = torch.from_numpy(load_pixels(samples, checkpoint.config.input))
    detector, size = checkpoint.detector, (SIZE, SIZE)
    centres = stack_centres([checkpoint.categories["disc"].centres] * len(samples))
    with torch.inference_mode():
        found = detector(detector.normalise(pixels), *centres)
    total = torch.zeros(len(samples), *GRID)
    for level in LEVELS:
        chosen = found.router.experts.tolist()
        is_own = torch.tensor([[detector.levels[expert] == level for expert in row] for row in chosen])
        gates = found.router.gates * is_own
        summed = (gates[..., None, None] * found.errors).sum(1)
        fine = F.interpolate(summed[:, None], size, mode="bilinear", align_corners=False)
        scaled = (summed - fine.min()) / (fine.max() - fine.min())
        total += scaled * gates.amax(1)[:, None, None]
    expected = Head(checkpoint.config.map_size, GRID)(total[:, None])
    scored = score_samples(checkpoint, samples, quiet_progress(), Protocol(normalise="released"))
    np.testing.assert_allclose(np.stack([*scored.maps]), expected.map.numpy(), atol=1e-5)
    np.testing.assert_allclose(scored.scores, expected.score.numpy(), atol=1e-5)


def test_the_full_view_is_what_was_calibrated(checkpoint: Checkpoint, fitted: Fitted) -> None:
    assert prepared(checkpoint, fitted.data, Protocol(), quiet_progress()) is checkpoint


def test_the_paper_view_is_calibrated_anew_on_cropped_pictures(
    checkpoint: Checkpoint, fitted: Fitted, samples: list[Sample]
) -> None:
    paper = prepared(checkpoint, fitted.data, Protocol(view="paper"), quiet_progress())
    assert paper.config.input.crop == PAPER_CROP
    assert checkpoint.config.input.crop == 1
    assert tuple(paper.categories) == PRODUCTS
    assert not np.array_equal(paper.categories["disc"].scores, checkpoint.categories["disc"].scores)
    full, cropped = (score_samples(one, samples, quiet_progress()) for one in (checkpoint, paper))
    assert not np.array_equal(full.scores, cropped.scores)


def test_the_paper_view_needs_no_calibration_for_test_minmax(checkpoint: Checkpoint, tmp_path: Path) -> None:
    protocol = Protocol(view="paper", normalise="test-minmax")
    paper = prepared(checkpoint, tmp_path / "nowhere", protocol, quiet_progress())
    assert paper.config.input.crop == PAPER_CROP
    assert paper.categories is checkpoint.categories


def test_masks_from_files_need_no_calibrated_products(
    checkpoint: Checkpoint, fitted: Fitted, samples: list[Sample], tmp_path: Path
) -> None:
    masks = write_masks(tmp_path, samples, quarters())
    protocol = Protocol(masks=masks, normalise="test-minmax")
    rows, uncalibrated = (
        evaluate_checkpoint(one, fitted.data / "disc", quiet_progress(), protocol)
        for one in (checkpoint, replace(checkpoint, categories={}))
    )
    assert rows == uncalibrated


def test_masks_with_calibrated_errors_are_refused() -> None:
    with pytest.raises(ValueError, match="masks parts need normalise test-minmax"):
        Protocol(masks=Path("parts"))


def test_the_caption_says_what_differs_from_the_service(checkpoint: Checkpoint, fitted: Fitted) -> None:
    protocol = Protocol(view="paper", normalise="test-minmax")
    rows = evaluate_checkpoint(checkpoint, fitted.data / "disc", quiet_progress(), protocol)
    console = Console(width=300)
    assert protocol.as_json() == {"view": "paper", "masks": None, "normalise": "test-minmax"}
    for shown, is_said in ((protocol, True), (Protocol(), False)):
        with console.capture() as capture:
            console.print(rows_table(rows, shown))
        caption = " ".join(capture.get().split())
        assert ("over the TEST SET, for reproducing papers only" in caption) is is_said
        assert ("centre crop of 7/8" in caption) is is_said
