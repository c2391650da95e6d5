"""Ablations: what each variant changes, what is trained only once, and what the table says."""

import json
import os
import shutil
from pathlib import Path
from statistics import fmean

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.training.conftest import Fitted
from tests.training.tiny_run import SIZE, quiet_progress, tiny_config
from training.anomalymoe.analysis import ablation
from training.anomalymoe.analysis.ablation import (
    Findings,
    Result,
    Variant,
    ablate,
    results_json,
    results_table,
    variants,
    with_balancing,
    with_learned_router,
)
from training.anomalymoe.fit import BACKBONE, fit
from training.anomalymoe.fit_config import FitConfig, TrainConfig, preset, with_levels
from training.anomalymoe.model.config import GlobalConfig, SubspaceConfig
from training.anomalymoe.presets import compact_autoencoder
from training.backbones.offline.pretext import PretextConfig
from training.data.pictures import DataError
from training.reporting.reference import Figure, reference_figures

SUBSETS = [
    "patch",
    "component",
    "global",
    "patch + component",
    "patch + global",
    "component + global",
    "patch + component + global",
]
QUICK = tiny_config(
    train=TrainConfig(steps=1, batch_size=4), pretext=PretextConfig(steps=2, batch_size=4, checks=2)
)


def quick_variants(config: FitConfig) -> list[Variant]:
    """Two that differ, and one that equals the first."""
    return [
        Variant("levels", "patch + global", with_levels(config, ("patch", "global"))),
        Variant("levels", "patch", with_levels(config, ("patch",))),
        Variant("balancing", "both", with_levels(config, ("patch", "global"))),
    ]


@pytest.fixture
def fitted_weights(monkeypatch: pytest.MonkeyPatch) -> dict[str, Path | None]:
    """The backbone that each variant was fitted with, filled as variants are trained."""
    seen: dict[str, Path | None] = {}

    def watched(
        data: Path, output: Path, config: FitConfig, weights: Path | None, progress: Progress
    ) -> None:
        seen[output.name] = weights
        fit(data, output, config, weights, progress)

    monkeypatch.setattr(ablation, "fit", watched)
    monkeypatch.setattr(ablation, "variants", quick_variants)
    return seen


def test_every_choice_of_levels_and_losses_is_a_variant() -> None:
    found = variants(preset("offline"))
    assert [one.name for one in found if one.table == "levels"] == SUBSETS
    assert [one.name for one in found if one.table == "balancing"] == ["neither", "ESB", "EIR", "both"]
    assert len({one.folder for one in found}) == len(found)
    for one in found[:7]:
        counts = dict(zip(("patch", "component", "global"), one.config.detector.counts, strict=True))
        assert " + ".join(level for level, count in counts.items() if count) == one.name
    weights = {
        one.name: (one.config.detector.esb.weight > 0, one.config.detector.eir.weight > 0)
        for one in found[7:]
    }
    assert weights == {
        "neither": (False, False),
        "ESB": (True, False),
        "EIR": (False, True),
        "both": (True, True),
    }


def test_levels_without_experts_are_no_variants() -> None:
    found = variants(with_levels(preset("dinov2-base"), ("patch", "global")))
    assert [one.name for one in found if one.table == "levels"] == ["patch", "global", "patch + global"]


def test_the_balancing_variants_have_a_router_that_losses_can_move() -> None:
    for one in variants(preset("offline"))[7:]:
        assert one.config.detector.router.selection == "top_k"
        assert one.config.detector.global_.subspace is None
        assert one.config.detector.counts == preset("offline").detector.counts


def test_a_learned_router_keeps_what_can_be_learned_with_it() -> None:
    full_size = preset("dinov2-reg-base")
    assert with_learned_router(full_size) == full_size
    clustered = tiny_config()
    learned = with_learned_router(clustered)
    assert learned.detector.router.selection == "top_k"
    assert learned.detector.global_ == clustered.detector.global_


def test_balancing_only_changes_the_weights() -> None:
    config = tiny_config()
    assert with_balancing(config, esb=True, eir=True) == config
    without = with_balancing(config, esb=False, eir=False).detector
    esb, eir = config.detector.esb, config.detector.eir
    assert without.esb == esb.model_copy(update={"weight": 0.0})
    assert without.eir == eir.model_copy(update={"weight": 0.0})


@pytest.mark.parametrize(
    "global_",
    [
        GlobalConfig(count=2, subspace=SubspaceConfig(channels=4, code=3)),
        GlobalConfig(count=1, autoencoder=compact_autoencoder(SIZE, code=8)),
    ],
    ids=["nothing is left for gradients to move", "there is no pair to repel"],
)
def test_a_level_alone_can_be_trained(fitted: Fitted, tmp_path: Path, global_: GlobalConfig) -> None:
    detector = QUICK.detector.model_copy(update={"global_": global_})
    config = with_levels(QUICK.model_copy(update={"detector": detector}), ("global",))
    categories = fit(fitted.data / "disc", tmp_path, config, fitted.folder / BACKBONE, quiet_progress())
    assert list(categories) == ["disc"]


def test_each_variant_is_trained_once_over_one_backbone(
    fitted: Fitted, tmp_path: Path, fitted_weights: dict[str, Path | None]
) -> None:
    results = ablate(fitted.data / "disc", tmp_path, QUICK, None, quiet_progress())
    first = tmp_path / "levels-patch+global"
    assert fitted_weights == {"levels-patch+global": None, "levels-patch": first / BACKBONE}
    assert results[2].findings == results[0].findings
    assert list(results[0].findings.image_auroc)[:2] == ["all", "structural"]
    assert set(results[0].findings.redundancy) == {"patch", "global"}
    assert json.loads((tmp_path / "ablation.json").read_text()) == json.loads(results_json(results))

    fitted_weights.clear()
    again = ablate(fitted.data / "disc", tmp_path, QUICK, None, quiet_progress())
    assert fitted_weights == {}
    assert again == results


def test_other_settings_weights_or_pictures_are_trained_anew(
    fitted: Fitted, tmp_path: Path, fitted_weights: dict[str, Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def train(
        config: FitConfig, data: Path, folder: Path, backbone: Path | None, key: str, progress: Progress
    ) -> Findings:
        trained.append(folder.name)
        found = findings(key=key)
        folder.mkdir(exist_ok=True)
        (folder / "findings.json").write_text(found.model_dump_json())
        return found

    monkeypatch.setattr(ablation, "_train", train)
    weights = tmp_path / "backbone"
    weights.write_bytes(b"1")
    data = shutil.copytree(fitted.data, tmp_path / "data")
    picture = data / "disc" / "test" / "good" / "0.png"
    longer = QUICK.model_copy(update={"train": TrainConfig(steps=2)})

    def trained_now(config: FitConfig, weights: Path | None) -> list[str]:
        trained.clear()
        ablate(data, tmp_path / "runs", config, weights, quiet_progress())
        return list(trained)

    both = ["levels-patch+global", "levels-patch"]
    assert trained_now(QUICK, None) == both
    assert trained_now(QUICK, None) == []
    assert trained_now(longer, None) == both
    assert trained_now(longer, weights) == both
    assert trained_now(longer, weights) == []
    os.utime(picture, (1, 1))
    assert trained_now(longer, weights) == both
    (tmp_path / "runs" / "levels-patch" / "findings.json").write_text("{")
    assert trained_now(longer, weights) == ["levels-patch"]


def test_data_without_good_or_defective_test_pictures_is_refused_before_training(
    fitted: Fitted, tmp_path: Path, fitted_weights: dict[str, Path | None]
) -> None:
    data = tmp_path / "disc"
    (data / "test").mkdir(parents=True)
    (data / "train").symlink_to(fitted.data / "disc" / "train")
    (data / "test" / "good").symlink_to(fitted.data / "disc" / "test" / "good")
    with pytest.raises(DataError, match="good and defective test pictures"):
        ablate(data, tmp_path / "out", QUICK, None, quiet_progress())
    assert fitted_weights == {}


def findings(key: str = "k") -> Findings:
    return Findings(
        key=key,
        datasets=[Figure(dataset="VisA", variant="ours", image_auroc=80.0, pixel_auroc=90.0)],
        image_auroc={"all": 0.875, "logical_missing": None},
        pixel_auroc=0.9,
        least_share=0.25,
        dead_experts=[],
        redundancy={"patch": 0.5},
    )


def test_the_table_is_in_percent_and_parts_the_two_ablations() -> None:
    results = [
        Result(Variant("levels", "patch", QUICK), findings()),
        Result(Variant("balancing", "ESB", QUICK), findings()),
    ]
    console = Console(width=180, file=None)
    with console.capture() as capture:
        console.print(results_table(results))
    lines = capture.get().splitlines()
    row = [cell.strip() for cell in next(line for line in lines if " levels " in line).split("│")[1:-1]]
    assert row == [
        "levels",
        "patch",
        "87.5",
        "-",
        "90.0",
        "80.0 / 90.0 (97.0 / 98.8)",
        "25.0",
        "50.0",
        "-",
        "-",
    ]
    heads = next(line for line in lines if "logical missing" in line)
    assert "least used" in heads
    parted = [number for number, line in enumerate(lines) if line.startswith("├")]
    assert len(parted) == 1
    assert "ESB" in lines[parted[0] + 1]
    assert "(97.4 / 98.9)" in lines[parted[0] + 1]  # without EIR


def test_json_names_the_variant() -> None:
    (row,) = json.loads(results_json([Result(Variant("levels", "patch", QUICK), findings())]))
    (figure,) = row.pop("datasets")
    assert (figure["dataset"], figure["pixel_auroc"]) == ("VisA", 90.0)
    assert row == {
        "table": "levels",
        "variant": "patch",
        "image_auroc": {"all": 0.875, "logical_missing": None},
        "pixel_auroc": 0.9,
        "least_share": 0.25,
        "dead_experts": [],
        "redundancy": {"patch": 0.5},
    }


def test_the_paper_stands_beside_each_data_set_and_their_average() -> None:
    names = ("VisA", "Ped2", "average")
    figures = [Figure(dataset=one, variant="ours", image_auroc=80.0, pixel_auroc=90.0) for one in names]
    both = findings().model_copy(update={"datasets": figures})
    table = results_table([Result(Variant("levels", "patch", QUICK), both)])
    cells = {str(column.header): next(iter(column.cells)) for column in table.columns}
    theirs = {one.dataset: one for one in reference_figures("anomalymoe", 2) if one.variant == "patch"}
    image = [theirs[one].image_auroc for one in names[:2]]
    assert cells["VisA"] == "80.0 / 90.0 (97.0 / 98.8)"
    assert str(cells["average"]).startswith(f"80.0 / 90.0 ({fmean(image):.1f} / ")  # type: ignore[type-var]


def test_all_variants_have_the_resolution_that_was_chosen_once(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone those without patches could not choose."""
    seen: list[FitConfig] = []

    def train(config: FitConfig, *_: object) -> Findings:
        seen.append(config)
        return Findings.model_construct(image_auroc={}, pixel_auroc=None, datasets=[], redundancy={})

    finer = QUICK.model_copy(update={"map_size": (99, 99)})
    monkeypatch.setattr(ablation, "choose_resolution", lambda *_: finer)
    monkeypatch.setattr(ablation, "variants", quick_variants)
    monkeypatch.setattr(ablation, "_train", train)
    ablate(fitted.data, tmp_path, QUICK, None, quiet_progress())
    assert len(seen) == 3
    assert {(one.map_size, one.resolution) for one in seen} == {((99, 99), "fixed")}
