"""The variants of the paper's tables: each differs as its name says, trains, and is measured once."""

from pathlib import Path

import pytest
import torch

from tests.training.moeclip.tiny import tiny_backbone, tiny_config, tiny_detector
from tests.training.tiny_run import quiet_progress
from training.moeclip.analysis import ablation
from training.moeclip.analysis.ablation import Data, ablate, results_table
from training.moeclip.analysis.variants import TABLES, variants
from training.moeclip.fit_config import MoECLIPFitConfig
from training.moeclip.model.config import MoECLIPConfig, MoEConfig
from training.moeclip.model.detector import MoECLIP
from training.reporting.reference import reference_figures


def tiny_variants(table: str) -> dict[str, MoECLIPConfig]:
    config = tiny_config({"moe": MoEConfig(rank=2).model_dump()})
    return {one.name: one.config.model for one in variants(table, config)}


@pytest.mark.parametrize("table", [table for table in TABLES if table != "figure-7"])
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
    assert all(one.metrics.pixel_auroc is not None for one in results)
    assert results[0].metrics != results[-1].metrics
    monkeypatch.delattr(ablation, "fit")
    assert ablate("2", data, tmp_path, config, tiny_backbone(), quiet_progress()) == results
    with pytest.raises(NameError, match="fit"):  # as it would train
        ablate("2", data, tmp_path, tiny_config(steps=3), tiny_backbone(), quiet_progress())
    shown = results_table("2", results)
    assert str(next(iter(shown.columns[1].cells))).endswith(" / 67.4")


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
