"""The commands of `anomoe-train` that look into a model: analyse, macs, ablate."""

import json
from pathlib import Path
from typing import Annotated

import typer

from training.anomalymoe.analysis.ablation import ablate as ablate_config
from training.anomalymoe.analysis.ablation import results_table
from training.anomalymoe.analysis.report import analyse as analyse_checkpoint
from training.anomalymoe.analysis.report import summary_table
from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.evaluation.macs import count_macs, macs_json, macs_table
from training.cli.moeclip import ablate_moeclip
from training.cli.options import (
    ALL_GOOD_NAMES,
    DEFAULT_BACKBONE,
    BackboneOption,
    ClassNamesOption,
    ConfigOption,
    DataPaths,
    DatasetOption,
    GoodOption,
    WeightsOption,
    console,
    fail,
    one_or_all,
    progress_bar,
    read_settings,
    reading,
)
from training.data.pictures import DataError
from training.moeclip.analysis.report import analyse as analyse_experts
from training.moeclip.analysis.report import summary_table as experts_table
from training.moeclip.analysis.variants import TABLES
from training.moeclip.checkpoint import load_run
from training.moeclip.scoring import Domain
from training.reporting.reference import Method
from training.runs.files import CheckpointError, read_method, write_text


def add_insight(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (analyse, macs, ablate):
        app.command()(command)


def analyse(
    checkpoint: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder written by fit.")],
    data: DataPaths,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder to write.")],
    good: GoodOption = ALL_GOOD_NAMES,
    dataset: DatasetOption = None,
    class_names: ClassNamesOption = None,
) -> None:
    """Show what a checkpoint has learnt: router use, maps of each level, redundant and dead experts, MACs.

    Writes maps.png, levels.png, routing.png, redundancy.png and analysis.json. Of a moeclip run, by layer:
    how much each class uses each expert (expert_use.png), the patches that choose it (patches_layer_*.png),
    and how alike two experts are (expert_similarity.png).

    \b
    Examples:
      anomoe-train analyse runs/tile --data pictures/tile --output runs/tile/analysis
    """
    try:
        with reading(good, dataset, class_names), progress_bar() as progress:
            if read_method(checkpoint) == "moeclip":
                tables = [
                    experts_table(analyse_experts(load_run(checkpoint), one_or_all(data), output, progress))
                ]
            else:
                found = analyse_checkpoint(load_checkpoint(checkpoint), one_or_all(data), output, progress)
                tables = [macs_table(found.macs), summary_table(found)]
    except (DataError, CheckpointError, OSError) as error:
        fail(str(error))
    for table in tables:
        console.print(table)
    console.print(f"{output}: written")


def macs(
    backbone: BackboneOption = DEFAULT_BACKBONE,
    config: ConfigOption = None,
    output: Annotated[Path | None, typer.Option(help="Write the counts as JSON too.")] = None,
) -> None:
    """Count the multiply-accumulates of one picture, part by part; needs no weights.

    \b
    Examples:
      anomoe-train macs --backbone dinov2-reg-base
      anomoe-train macs --config runs/tile/config.json --output macs.json
    """
    try:
        counts = count_macs(read_settings(backbone, config))
        if output:
            write_text(output, json.dumps(macs_json(counts), indent=2) + "\n")
    except (CheckpointError, OSError) as error:
        fail(str(error))
    console.print(macs_table(counts))


def ablate(  # noqa: PLR0913 - an option each
    data: DataPaths,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the runs.")],
    backbone: BackboneOption = DEFAULT_BACKBONE,
    config: ConfigOption = None,
    weights: WeightsOption = None,
    *,
    method: Annotated[Method, typer.Option(help="Which detector to take apart.")] = "anomalymoe",
    clip: Annotated[
        list[str] | None,
        typer.Option(help="moeclip: the CLIP to start from, as of fit; --table 5 compares several."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(exists=True, help="moeclip: the pictures to measure on.")
    ] = None,
    table: Annotated[str, typer.Option(help=f"moeclip: one of {', '.join(TABLES)}.")] = "2",
    domain: Annotated[Domain | None, typer.Option(help="moeclip: of what is measured on.")] = None,
    good: GoodOption = ALL_GOOD_NAMES,
    dataset: DatasetOption = None,
) -> None:
    """Train and measure the model without some of its levels, and without its balancing losses.

    --method moeclip: train and measure the variants of a table of its paper, and show the paper's figures.

    Stopped and started again, it goes on after the variants that are finished.

    \b
    Examples:
      anomoe-train ablate --data pictures/tile --output runs/tile-ablation
      anomoe-train ablate --method moeclip --data visa --test mvtec --clip runs/clip --output runs/tables
      anomoe-train ablate --method moeclip --table 5 --data visa --test mvtec --clip ViT-B-16:openai \\
        --clip ViT-L-14-336:openai --output runs/tables
    """
    try:
        with reading(good, dataset), progress_bar() as progress:
            place = one_or_all(data)
            if method == "moeclip":
                table_shown = ablate_moeclip(table, place, test, domain, output, clip or [], config, progress)
            else:
                settings = read_settings(backbone, config)
                table_shown = results_table(ablate_config(place, output, settings, weights, progress))
    except KeyboardInterrupt:
        fail(f"stopped; the same command goes on from what {output} holds")
    except (ValueError, OSError) as error:  # a ValueError for settings that a variant cannot have, too
        fail(str(error))
    console.print(table_shown)
