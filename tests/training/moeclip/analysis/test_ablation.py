"""The variants of the paper's tables: each differs as its name says, trains, and is measured once."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.training.moeclip.tiny import tiny_backbone, tiny_config, tiny_detector, tiny_tokenizer
from tests.training.tiny_run import quiet_progress
from training.moeclip.analysis import ablation
from training.moeclip.analysis.ablation import Data, ablate
from training.moeclip.analysis.results import Result, charts, results_table
from training.moeclip.analysis.variants import TABLES, variants
from training.moeclip.backbone import read_backbone
from training.moeclip.checkpoint import save_run
from training.moeclip.fit_config import MoECLIPFitConfig
from training.moeclip.model.config import MoECLIPConfig, MoEConfig
from training.moeclip.model.detector import MoECLIP
from training.reporting.reference import Figure, reference_figures


def tiny_variants(table: str) -> dict[str, MoECLIPConfig]:
    config = tiny_config({"moe": MoEConfig(rank=2).model_dump()})
    return {one.name: one.config.model for one in variants(table, config)}


@pytest.mark.parametrize("table", [table for table in TABLES if table not in {"5", "figure-7"}])
def test_every_variant_differs_and_gives_maps_and_scores(table: str) -> None:
    models = tiny_variants(table)
    image = torch.rand(1, 3, 40, 40)
    for model in models.values():
        seen = tiny_detector(model)(image)
        assert seen.tokens.shape[1] == model.maps
        assert seen.summary.shape == (1, 24)
    if table != "2":  # whose rows without ETF loss differ in training only
        assert len(set(map(str, models.values()))) == len(models)


def test_rows_have_the_names_of_the_paper() -> None:
    for table in ("2", "9"):
        published = {figure.variant for figure in reference_figures("moeclip", int(table))}
        assert set(tiny_variants(table)) == published
    assert {"MLP Router", "MoECLIP"} < {figure.variant for figure in reference_figures("moeclip", 10)}
    for table in ("7", "8"):
        published = {figure.variant for figure in reference_figures("moeclip", int(table))}
        assert {one.name for one in variants(table, MoECLIPFitConfig.model_validate({}))} == published


def test_without_fofs_the_experts_read_all_channels_and_train_them() -> None:
    separated, shared = (MoEConfig(rank=2, separated=one) for one in (True, False))
    frozen, trained = (
        tiny_detector(tiny_config({"moe": one.model_dump()}).model) for one in (separated, shared)
    )
    assert (frozen.state_dict()["moe.0.lora_a"] == 0).any()
    assert not (trained.state_dict()["moe.0.lora_a"] == 0).any()
    names = {name for name, one in trained.named_parameters() if one.requires_grad}
    assert "moe.0.lora_a" in names
    assert not any("lora_a" in name for name, _ in frozen.named_parameters())


def test_without_its_adapter_the_image_token_is_the_mean_of_the_patches() -> None:
    model = tiny_detector(tiny_config({"image_adapter": False}).model)
    seen = model(torch.rand(2, 3, 40, 40))
    last = len(model.config.scales) * (len(model.config.layers) - 1)  # the last layer at scale 1
    torch.testing.assert_close(seen.summary, seen.tokens[:, last].mean(1))


def test_a_table_is_trained_once_and_shown_beside_the_paper(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(steps=2)
    data = Data(pictures, pictures / "disc", "industrial")
    results = ablate("2", data, tmp_path, config, tiny_backbone(), quiet_progress())
    assert [one.name for one in results] == [one.name for one in variants("2", config)]
    assert all(one.figures[-1].pixel_auroc is not None for one in results)
    assert results[0].figures != results[-1].figures
    monkeypatch.delattr(ablation, "fit")
    assert ablate("2", data, tmp_path, config, tiny_backbone(), quiet_progress()) == results
    with pytest.raises(NameError, match="fit"):  # as it would train
        ablate("2", data, tmp_path, tiny_config(steps=3), tiny_backbone(), quiet_progress())
    written = json.loads((tmp_path / "table-2.json").read_text())
    assert [one["variant"] for one in written] == [one.name for one in results]
    assert written[0]["ours"]["pixel_auroc"] == results[0].figures[0].pixel_auroc


def test_figures_of_the_data_sets_of_the_paper_stand_beside_theirs() -> None:
    figures = [
        Figure(dataset=one, variant="ours", image_auroc=50.0, pixel_auroc=60.0)
        for one in ("MVTec-AD", "Head CT", "average")
    ]
    shown = results_table("2", [Result("Vanilla CLIP", figures, [])])
    cells = {str(column.header): next(iter(column.cells)) for column in shown.columns}
    theirs = {one.dataset: one for one in reference_figures("moeclip", 2) if one.variant == "Vanilla CLIP"}
    assert cells["MVTec-AD image auroc"] == f"50.0 / {theirs['MVTec-AD'].image_auroc}"
    assert cells["average pixel auroc"] == f"60.0 / {theirs['Average'].pixel_auroc}"


def test_table_5_starts_from_each_clip_at_each_size(pictures: Path, tmp_path: Path) -> None:
    clips = [str(tmp_path / name) for name in ("small", "large")]
    for clip in clips:
        save_run(Path(clip), tiny_config(), tiny_detector(), tiny_tokenizer())
    rows = variants("5", tiny_config(steps=2), clips)
    assert [one.name for one in rows] == ["small 40", "small 48", "large 40", "large 48"]
    assert [one.config.input.height for one in rows] == [40, 48, 40, 48]
    data = Data(pictures, pictures / "disc", "industrial")
    backbone = read_backbone(clips[0])
    results = ablate("5", data, tmp_path, tiny_config(steps=2), backbone, quiet_progress(), clips[:1])
    assert results[0].figures != results[1].figures
    assert ablation.load_run(tmp_path / "table-5" / "01").config.model.clip.vision.grid == (6, 6)


def test_table_5_has_the_sizes_of_the_paper() -> None:
    clips = ["ViT-B-32:openai", "ViT-B-16:openai", "ViT-L-14:openai", "ViT-L-14-336:openai"]
    rows = variants("5", MoECLIPFitConfig.model_validate({}), clips)
    assert [one.name for one in rows] == [one.variant for one in reference_figures("moeclip", 5)]


@pytest.mark.parametrize("figure", ["figure-6", "figure-8"])
def test_figures_are_drawn(pictures: Path, tmp_path: Path, figure: str) -> None:
    config = tiny_config({"moe": MoEConfig(rank=2).model_dump()}, steps=2)
    data = Data(pictures / "disc", pictures / "square", "industrial")
    results = ablate(figure, data, tmp_path, config, tiny_backbone(), quiet_progress())
    with Image.open(tmp_path / f"{figure}.png") as drawn:
        assert drawn.size == (720, 320)
    assert len(json.loads((tmp_path / f"{figure}.json").read_text())) == len(results)
    (chart,) = charts(figure, results)
    if figure == "figure-6":
        assert [*chart.ticks.values()] == [str(number) for number in range(1, 9)]
    else:
        assert [*chart.curves] == ["single expert", "MoECLIP"]
        assert all(len(points) == len(results[0].losses) > 0 for points in chart.curves.values())


def test_figure_7_has_a_chart_for_each_setting() -> None:
    figure = Figure(dataset="mean", variant="ours", image_auroc=50.0, pixel_auroc=60.0)
    results = [Result(one.name, [figure], []) for one in variants("figure-7", tiny_config())]
    titles = [one.title.partition(":")[0] for one in charts("figure-7", results)]
    assert titles == ["lambda_MoE", "lambda_etf", "lambda_bal", "rank", "top"]


def test_plain_clip_projects_as_clip_does(pictures: Path, tmp_path: Path) -> None:
    plain = variants("2", tiny_config())[0]
    ablation._train(plain, pictures, tmp_path, tiny_backbone(), quiet_progress())
    model = ablation.load_run(tmp_path).model
    assert isinstance(model, MoECLIP)
    for projection in model.projections:
        torch.testing.assert_close(projection.weight, tiny_backbone().clip.visual.proj.T)
    assert not model.moe


def test_experts_are_needed() -> None:
    with pytest.raises(ValueError, match=r"model\.moe: experts are needed"):
        variants("2", tiny_config({"moe": None}))


def test_the_rows_without_a_loss_train_without_it() -> None:
    weights = {one.name: one.config.train.etf_weight for one in variants("2", tiny_config())}
    assert weights["w/o ETF Loss"] == weights["w/o FOFS & ETF Loss"] == 0
    assert weights["w/o FOFS"] == weights["MoECLIP"] == 0.01
