"""What the commands of `anomoe-train` do for the method moeclip."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from training.data.dataset import Place
from training.distributed import is_main
from training.moeclip.analysis.ablation import Data, ablate
from training.moeclip.analysis.results import results_table
from training.moeclip.analysis.variants import TABLES
from training.moeclip.backbone import Backbone, read_backbone
from training.moeclip.fit import fit
from training.moeclip.fit_config import MoECLIPFitConfig
from training.moeclip.scoring import Domain
from training.runs.files import read_settings

ClipOption = Annotated[
    str | None,
    typer.Option(
        help="moeclip: the CLIP to start from: folder of a run, file, or open_clip's MODEL:TAG, "
        "ViT-L-14-336:openai for the paper's."
    ),
]


def fit_moeclip(data: Place, output: Path, clip: str | None, config: Path | None, progress: Progress) -> str:
    """Train adapters; returns what to say of it. Raises BadParameter without a CLIP, else as `fit`."""
    if clip is None:
        raise typer.BadParameter("--clip: method moeclip needs a CLIP to start from, got none")
    settings, backbone = _read_both(clip, config)
    report = fit(data, output, settings, backbone, progress)
    return is_main() * (
        f"{output}: {report.steps} steps on {report.good_pictures} good and {report.anomalous_pictures} "
        f"anomalous pictures of {len(report.classes)} classes"
    )


def ablate_moeclip(  # noqa: PLR0913, PLR0917 - an option each
    table: str,
    data: Place,
    test: Path | None,
    domain: Domain | None,
    output: Path,
    clips: list[str],
    config: Path | None,
    progress: Progress,
) -> Table:
    """Train and measure the variants of a table. Raises BadParameter for what is missing."""
    if not clips or test is None:
        raise typer.BadParameter("--clip and --test: method moeclip needs a CLIP and pictures to measure on")
    if table not in TABLES:
        raise typer.BadParameter(f"--table: {table!r} is none of {', '.join(TABLES)}")
    if len(clips) > 1 and table != "5":
        raise typer.BadParameter(f"--clip: table {table} starts from one CLIP, got {', '.join(clips)}")
    settings, backbone = _read_both(clips[0], config)
    results = ablate(table, Data(data, test, domain), output, settings, backbone, progress, clips)
    return results_table(table, results)


def _read_both(clip: str, config: Path | None) -> tuple[MoECLIPFitConfig, Backbone]:
    settings = read_settings(config, MoECLIPFitConfig) if config else None
    backbone = read_backbone(clip, settings.model if settings else None)
    return settings or MoECLIPFitConfig.model_validate({"model": backbone.config.model_dump()}), backbone
