"""`anomoe-train ablate`: what each level and each balancing loss is good for (Tables 2 and 3 of the paper).

Table 2 takes levels away from the given configuration. Table 3 takes the losses away; a router that
clustering decided before training is frozen and leaves ESB nothing to move, so there the router is a learned
one: Top-K over all experts, with the paper's experts, since closed forms are fitted to settled choices.
"""

import hashlib
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.progress import Progress
from rich.table import Table

from export.contract.manifest import LEVELS, Level
from training.anomalymoe.analysis.looks import known_test_samples
from training.anomalymoe.analysis.redundancy import expert_redundancy, mean_redundancy
from training.anomalymoe.analysis.routing import router_use
from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.evaluation.evaluate import evaluate_checkpoint
from training.anomalymoe.fit import BACKBONE, fit
from training.anomalymoe.fit_config import FitConfig, with_levels
from training.anomalymoe.model.config import AnomalyMoEConfig, GlobalConfig
from training.anomalymoe.presets import compact_autoencoder
from training.anomalymoe.products import find_normal
from training.anomalymoe.resolution import choose_resolution
from training.data.dataset import Place, find_samples
from training.data.pictures import DataError, Sample
from training.reporting.reference import Figure, reference_figures
from training.reporting.rows import ALL, percent
from training.reporting.tables import average, dataset_means, with_average
from training.runs.files import write_text

FINDINGS = "findings.json"
SUMMARY = "ablation.json"
BALANCING = {"neither": (False, False), "ESB": (True, False), "EIR": (False, True), "both": (True, True)}
PAPER_ROWS = {
    "patch + component + global": "AnomalyMoE",
    "ESB": "w/o EIR",
    "EIR": "w/o ESB",
    "both": "AnomalyMoE",
}
CAPTION = (
    "percent; image AUROC by group of defects, mean over the categories, one training each. pixels: pixel "
    "AUROC. data sets: image / pixel AUROC, the paper's in brackets. balancing: with a learned Top-K router "
    "and autoencoders. least used: share of the test pictures that choose the least used expert. redundancy: "
    "mean linear CKA of two experts of a level"
)


class Variant(NamedTuple):
    """One row of the paper's Table 2 (levels) or 3 (balancing)."""

    table: Literal["levels", "balancing"]
    name: str
    config: FitConfig

    @property
    def folder(self) -> str:
        """Name of the folder of its run."""
        return f"{self.table}-{self.name.replace(' ', '')}"


class Findings(BaseModel):
    """Figures of one trained variant, 0..1. key: of the settings and pictures they were measured with.

    datasets: in percent by data set of the paper, with their average where there are several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    datasets: list[Figure]
    image_auroc: dict[str, float | None]
    pixel_auroc: float | None
    least_share: float
    dead_experts: list[str]
    redundancy: dict[Level, float | None]


class Result(NamedTuple):
    """A variant and what was found."""

    variant: Variant
    findings: Findings


def ablate(
    data: Place, output: Path, config: FitConfig, weights: Path | None, progress: Progress
) -> list[Result]:
    """Train and measure every variant of `config` in a folder of its own under `output`.

    The backbone is trained once. A variant that is there with the same settings and pictures is not trained
    again, nor is one that equals another. weights: local file of a trained backbone.
    Raises DataError before any training when good or defective test pictures are missing.
    """
    samples = find_samples(data)
    if {one.is_anomalous for one in samples if one.split == "test"} != {False, True}:
        raise DataError(
            f"{data}: good and defective test pictures (test/<kind>) are needed to compare variants"
        )
    # Once, as variants without patches could not choose.
    config = choose_resolution(find_normal(data), config, weights, progress).model_copy(
        update={"resolution": "fixed"}
    )
    results: list[Result] = []
    folders: dict[str, Path] = {}
    output.mkdir(parents=True, exist_ok=True)
    overall = progress.add_task("variants", total=None)
    planned = variants(config)
    for done, variant in enumerate(planned):
        progress.update(overall, completed=done, total=len(planned), description=f"variant {variant.name}")
        key = _key(variant.config, weights, samples)
        folder = folders.setdefault(key, output / variant.folder)
        backbone = weights or _shared_backbone(config, next(iter(folders.values())), folder)
        findings = _kept(folder, key) or _train(variant.config, data, folder, backbone, key, progress)
        results.append(Result(variant, findings))
        write_text(output / SUMMARY, results_json(results))
        for task in set(progress.task_ids) - {overall}:
            progress.remove_task(task)
    progress.update(overall, completed=len(planned))
    return results


def variants(config: FitConfig) -> list[Variant]:
    """Every choice of the levels that have experts, fewest first, and every choice of balancing losses."""
    used: list[Level] = [level for level, count in zip(LEVELS, config.detector.counts, strict=True) if count]
    chosen = [levels for count in range(1, len(used) + 1) for levels in combinations(used, count)]
    by_levels = [Variant("levels", " + ".join(levels), with_levels(config, levels)) for levels in chosen]
    learned = with_learned_router(config)
    by_losses = [
        Variant("balancing", name, with_balancing(learned, esb=esb, eir=eir))
        for name, (esb, eir) in BALANCING.items()
    ]
    return by_levels + by_losses


def with_learned_router(config: FitConfig) -> FitConfig:
    """The same run with a router that training moves, and the paper's experts where closed forms would be."""
    detector = config.detector.model_dump()
    detector["router"]["selection"] = "top_k"
    detector["patch"]["gaussians"] = detector["component"]["parts"] = None
    if config.detector.global_.subspace is not None:
        side = min(config.input.height, config.input.width)
        count = config.detector.global_.count
        detector["global_"] = GlobalConfig(count=count, autoencoder=compact_autoencoder(side))
    return config.model_copy(update={"detector": AnomalyMoEConfig.model_validate(detector)})


def with_balancing(config: FitConfig, *, esb: bool, eir: bool) -> FitConfig:
    """The same run with or without expert selection balancing and expert information repulsion."""
    detector = config.detector.model_dump()
    for field, is_used in (("esb", esb), ("eir", eir)):
        if not is_used:
            detector[field]["weight"] = 0.0
    return config.model_copy(update={"detector": AnomalyMoEConfig.model_validate(detector)})


def results_table(results: Sequence[Result]) -> Table:
    """One row a variant, in percent; kinds of defects that belong to a family are left to the JSON."""
    known = dict.fromkeys(group for one in results for group in one.findings.image_auroc)
    groups = [group for group in known if (family := group.split("_")[0]) == group or family not in known]
    headings = [group.replace("_", " ") for group in groups]  # a heading may break between words
    datasets = dict.fromkeys(figure.dataset for one in results for figure in one.findings.datasets)
    headings += ["pixels", *datasets, "least used", *(f"{level} redundancy" for level in LEVELS)]
    table = Table("", "variant", *headings, caption=CAPTION)
    for number, (variant, findings) in enumerate(results):
        if number and variant.table != results[number - 1].variant.table:
            table.add_section()
        figures = [
            *(findings.image_auroc.get(group) for group in groups),
            findings.pixel_auroc,
        ]
        others = [findings.least_share, *(findings.redundancy.get(level) for level in LEVELS)]
        both = _beside_the_paper(variant, findings.datasets)
        table.add_row(variant.table, variant.name, *map(percent, figures), *both, *map(percent, others))
    return table


def _beside_the_paper(variant: Variant, ours: Sequence[Figure]) -> list[str]:
    """Image / pixel AUROC of ours and of the paper, which leaves out global and component experts alone."""
    name = PAPER_ROWS.get(variant.name, variant.name)
    rows = reference_figures("anomalymoe", 2 if variant.table == "levels" else 3)
    theirs = [one for one in rows if one.variant == name and one.dataset in {own.dataset for own in ours}]
    published = {one.dataset: one for one in [*theirs, *([average(theirs)] if theirs else [])]}
    return [" ".join(filter(None, (_pair(one), _pair(published.get(one.dataset), "({})")))) for one in ours]


def _pair(figure: Figure | None, form: str = "{}") -> str:
    if figure is None:
        return ""
    both = (figure.image_auroc, figure.pixel_auroc)
    return form.format(" / ".join("-" if one is None else f"{one:.1f}" for one in both))


def results_json(results: Sequence[Result]) -> str:
    """All figures, 0..1, with the name of each variant."""
    rows = [
        {"table": variant.table, "variant": variant.name, **findings.model_dump(exclude={"key"})}
        for variant, findings in results
    ]
    return json.dumps(rows, indent=2) + "\n"


def _train(
    config: FitConfig, data: Place, folder: Path, backbone: Path | None, key: str, progress: Progress
) -> Findings:
    fit(data, folder, config, backbone, progress)
    checkpoint = load_checkpoint(folder)
    rows = evaluate_checkpoint(checkpoint, data, progress)
    samples = known_test_samples(checkpoint, data)
    use = router_use(checkpoint, samples, progress)
    redundancy = expert_redundancy(checkpoint, samples, progress)
    last = [row for row in rows if row.category == rows[-1].category]  # the mean where there are several
    findings = Findings(
        key=key,
        datasets=with_average(dataset_means(rows, "anomalymoe")),
        image_auroc={row.defects: row.metrics.image_auroc for row in last},
        pixel_auroc=next((row.metrics.pixel_auroc for row in last if row.defects == ALL), None),
        least_share=use.least_share,
        dead_experts=use.dead,
        redundancy={level: mean_redundancy(cka) for level, cka in redundancy.items()},
    )
    write_text(folder / FINDINGS, findings.model_dump_json(indent=2) + "\n")
    return findings


def _kept(folder: Path, key: str) -> Findings | None:
    """What was found in an earlier run with the same settings and pictures."""
    try:
        findings = Findings.model_validate_json((folder / FINDINGS).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return findings if findings.key == key else None


def _shared_backbone(config: FitConfig, first: Path, folder: Path) -> Path | None:
    """The offline backbone that the first variant trained; None for the first itself and for DINOv2."""
    return first / BACKBONE if config.backbone == "offline" and folder != first else None


def _key(config: FitConfig, weights: Path | None, samples: Sequence[Sample]) -> str:
    """Changes with the settings, the weights' file and any picture or mask."""
    pictures = (path for one in samples for path in (one.path, *one.mask_paths))
    digest = hashlib.sha256(config.model_dump_json().encode())
    for path in ([weights] if weights else []) + sorted(pictures):
        stat = path.stat()
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
