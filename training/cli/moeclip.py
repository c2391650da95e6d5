"""What the commands of `anomoe-train` do for the method moeclip."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from training.data.dataset import Place
from training.moeclip.backbone import read_backbone
from training.moeclip.fit import fit
from training.moeclip.fit_config import MoECLIPFitConfig
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
    settings = read_settings(config, MoECLIPFitConfig) if config else None
    backbone = read_backbone(clip, settings.model if settings else None)
    settings = settings or MoECLIPFitConfig.model_validate({"model": backbone.config.model_dump()})
    report = fit(data, output, settings, backbone, progress)
    return (
        f"{output}: {report.steps} steps on {report.good_pictures} good and {report.anomalous_pictures} "
        f"anomalous pictures of {len(report.classes)} classes"
    )
