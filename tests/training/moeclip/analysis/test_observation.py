"""What is seen of the experts: choices and likeness by hand, and the analysis that is written."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.moeclip.tiny import MODEL, tiny_config, tiny_detector, tiny_tokenizer
from tests.training.tiny_run import quiet_progress
from training.data.dataset import find_samples
from training.data.pictures import DataError
from training.moeclip.analysis.cost import measure_cost
from training.moeclip.analysis.grad_cam import cam, grad_cams
from training.moeclip.analysis.map_sheets import draw_maps, patch_gates
from training.moeclip.analysis.observation import Observation, expert_similarity, observe_layer
from training.moeclip.analysis.report import analyse, group_names, summarise
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.model.lora_moe import MoEOutput
from training.runs.files import CheckpointError


def run(**model: object) -> Checkpoint[RunConfig]:
    config = tiny_config(model)
    return Checkpoint(config, tiny_detector(config.model), tiny_tokenizer(), {})


def test_similarity_by_hand() -> None:
    outputs = torch.tensor([[[[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]], [[0.0, 9.0], [0.0, 4.0], [5.0, 5.0]]]])
    chosen = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]])
    (found,) = expert_similarity(outputs, chosen)
    # Expert 0 says (1, 0), on the first patch alone; expert 1 (0, 3) on average; nobody chose expert 2.
    assert found[0, 1].item() == pytest.approx(0)
    assert found[0, 0].item() == found[1, 1].item() == pytest.approx(1)
    assert found[2].isnan().all()
    assert found[:, 2].isnan().all()


def test_choices_by_hand_leave_cls_out() -> None:
    probabilities = torch.tensor([[[0.0, 0.0, 1.0], [0.6, 0.3, 0.1], [0.1, 0.5, 0.4], [0.7, 0.1, 0.2]]])
    output = MoEOutput(torch.zeros(1, 4, 2), probabilities, torch.ones(1, 4, 3, 2))
    seen = observe_layer(output, top_k=2)
    torch.testing.assert_close(seen.shares, torch.tensor([[2.0, 2.0, 2.0]]) / 6)
    assert seen.first.tolist() == [[0, 1, 0]]
    torch.testing.assert_close(seen.confidence, torch.tensor([[0.6, 0.5, 0.7]]))


def test_summary_by_hand() -> None:
    seen = Observation(
        shares=torch.tensor([[[0.5, 0.5]], [[1.0, 0.0]], [[0.0, 1.0]]]),
        first=torch.tensor([[[0, 0]], [[0, 0]], [[0, 0]]]),
        confidence=torch.tensor([[[0.5, 0.7]], [[0.6, 0.6]], [[0.6, 0.6]]]),
        similarity=torch.tensor([[[[1.0, 0.4], [0.4, 1.0]]], [[[1.0, torch.nan], [torch.nan, torch.nan]]]]),
    )
    found = summarise(seen, ["nut", "nut", "tile"], (6,))
    assert found.classes == ("nut", "tile", "all")
    np.testing.assert_allclose(found.use[0], [[0.75, 0.25], [0, 1], [0.5, 0.5]])
    np.testing.assert_allclose(found.similarity[0], [[1, 0.4], [0.4, 1]], atol=1e-6)
    assert found.mean_similarity == pytest.approx([0.4])
    assert found.confidence[0, 0] == pytest.approx(0.6)
    assert math.isnan(found.confidence[0, 1])


def test_analysis_is_written(pictures: Path, tmp_path: Path) -> None:
    found = analyse(run(), pictures, tmp_path, quiet_progress())
    assert found.classes == ("disc", "square", "all")
    np.testing.assert_allclose(found.use.sum(2), 1, rtol=1e-6)
    written = json.loads((tmp_path / "analysis.json").read_text())
    assert list(written) == ["layer 2", "layer 3", "cost"]
    assert written["layer 2"]["use"]["disc"] == pytest.approx(found.use[0, 0].tolist())
    sheets = ("expert_use", "expert_similarity", "maps", "maps_by_layer")
    by_layer = (f"{name}_layer_{layer}" for name in ("patches", "choices", "grad_cam") for layer in (2, 3))
    for name in (f"{one}.png" for one in (*sheets, *by_layer)):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 100


def test_a_run_without_experts_has_nothing_to_show(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.moe: .* without experts"):
        analyse(run(moe=None), pictures, tmp_path, quiet_progress())


def test_test_pictures_are_needed(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no test pictures"):
        analyse(run(), pictures / "disc" / "train" / "good", tmp_path, quiet_progress())
    assert MODEL.moe is not None


def test_pictures_of_several_data_sets_are_grouped_by_them(pictures: Path) -> None:
    first, second = find_samples(pictures)[:2]
    assert group_names([first, second]) == ["disc", "disc"]
    assert group_names([first, replace(second, dataset="VisA")]) == ["disc", "VisA"]


def test_patches_that_are_chosen_are_as_many_as_the_router_takes(pictures: Path) -> None:
    samples = find_samples(pictures)[:2]
    chosen = [one > 0 for one in patch_gates(run(), samples)]
    assert [one.shape for one in chosen] == [(2, 25, 4)] * 2
    assert {count for one in chosen for count in one.sum(2).ravel().tolist()} == {2}


def test_maps_have_a_row_for_each_layer_and_scale(pictures: Path) -> None:
    samples = find_samples(pictures)[:2]
    whole, by_layer = draw_maps(run(), samples)
    assert by_layer.height - whole.height == 3 * (40 + 4)  # four maps in place of one


def test_grad_cam_by_hand() -> None:
    outputs = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]], [[3.0, 3.0]]]])  # three patches, one expert
    gradients = torch.tensor([[[[1.0, -3.0]], [[1.0, 0.0]], [[1.0, 0.0]]]])  # means 1 and -1
    torch.testing.assert_close(cam(outputs, gradients), torch.tensor([[[1.0], [0.0], [0.0]]]))


def test_grad_cam_sees_only_what_an_expert_says_to_its_patches(pictures: Path) -> None:
    samples = find_samples(pictures)[:2]
    cams = grad_cams(run(), samples)
    assert [one.shape for one in cams] == [(2, 25, 4)] * 2
    assert all(one.min() >= 0 and one.max() == 1 for one in cams)
    assert not np.allclose(cams[1][0], cams[1][1])


def test_the_cost_is_that_of_the_parameters_and_the_formula() -> None:
    seen = run()
    cost = measure_cost(seen)
    assert cost.parameters == sum(one.numel() for one in seen.model.parameters())
    assert cost.trained_parameters == sum(one.numel() for one in seen.model.adapters())
    tokens, width = 26, MODEL.clip.vision.width
    assert cost.flops > 2 * tokens * 12 * width**2 * MODEL.clip.vision.depth  # the blocks' matrices alone
    assert cost.time_ms > 0
    assert cost.peak_memory_bytes > 4 * cost.parameters
