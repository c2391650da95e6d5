"""What the commands of `anomoe-train` do for the method moeclip."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from training.checkpoint import read_settings
from training.moeclip.backbone import Backbone, read_backbone
from training.moeclip.fit import fit
from training.moeclip.fit_config import MoECLIPFitConfig

ClipOption = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, help="moeclip: folder of a run whose CLIP to start from."),
]


def fit_moeclip(data: Path, output: Path, clip: Path | None, config: Path | None, progress: Progress) -> str:
    """Train adapters; returns what to say of it. Raises BadParameter without a CLIP, else as `fit`."""
    if clip is None:
        raise typer.BadParameter("--clip: method moeclip needs a CLIP to start from, got none")
    backbone = read_backbone(clip)
    report = fit(data, output, _settings(backbone, config), backbone, progress)
    return (
        f"{output}: {report.steps} steps on {report.good_pictures} good and {report.anomalous_pictures} "
        f"anomalous pictures of {len(report.classes)} classes"
    )


def _settings(backbone: Backbone, config: Path | None) -> MoECLIPFitConfig:
    """Those of a file, or the default ones with the model that the backbone was made for."""
    if config is not None:
        return read_settings(config, MoECLIPFitConfig)
    return MoECLIPFitConfig.model_validate({"model": backbone.config.model_dump()})
