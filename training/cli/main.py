"""The `anomoe-train` command: demo data, training and measurement."""

from pathlib import Path
from typing import Annotated

import typer

from export.contract.manifest import LEVELS
from training.anomalymoe.fit import fit as fit_checkpoint
from training.anomalymoe.fit_config import with_levels
from training.cli.demo import add_demo
from training.cli.import_weights import import_file, import_from_hub, read_run_settings
from training.cli.insight import add_insight
from training.cli.measure import add_measuring
from training.cli.moeclip import ClipOption, fit_moeclip
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
    read_levels,
    read_settings,
    reading,
)
from training.cli.segment import add_segment
from training.data.logs import log_to_stderr
from training.data.pictures import DataError
from training.demo.factory.folders import make_demo_data
from training.distributed import ParallelError, process_group
from training.moeclip.loop import DivergedError
from training.reporting.reference import Method
from training.runs.files import CheckpointError
from training.runs.foreign import WeightsError
from training.runs.resume import ResumeError

_FIT_ERRORS = (DataError, WeightsError, CheckpointError, ParallelError, ResumeError, DivergedError, OSError)

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Train AnomalyMoE on normal pictures, or MoECLIP on marked defects of other things, and measure them."""
    log_to_stderr()


@app.command()
def fit(  # noqa: PLR0913 - an option each
    data: DataPaths,
    output: Annotated[Path, typer.Option(help="Folder of the run; `runs/<data>` by default.")] = Path(),
    *,
    method: Annotated[Method, typer.Option(help="Which detector to train.")] = "anomalymoe",
    backbone: BackboneOption = DEFAULT_BACKBONE,
    config: ConfigOption = None,
    weights: WeightsOption = None,
    levels: Annotated[str, typer.Option(help="Levels in use, for ablations.")] = ",".join(LEVELS),
    clip: ClipOption = None,
    good: GoodOption = ALL_GOOD_NAMES,
    dataset: DatasetOption = None,
    class_names: ClassNamesOption = None,
) -> None:
    """Train AnomalyMoE on normal pictures (train/good), a quarter of them held out to calibrate it.

    --method moeclip: train the zero-shot adapters of a CLIP on an auxiliary data set with masks.

    Stopped and started again with the same settings and pictures, it goes on where it was.
    Under torchrun, each of several processes (GPUs) takes its share of every batch.

    \b
    Examples:
      anomoe-train fit --data pictures/tile
      anomoe-train fit --data mvtec --backbone dinov2-reg-base --output runs/mvtec
      torchrun --nproc-per-node 4 -m training.cli fit --data mvtec --backbone dinov2-reg-base
      anomoe-train fit --data pictures/tile --good "io,good"
      anomoe-train fit --data mvtec --data pictures/gears --output runs/all
      anomoe-train fit --method moeclip --data visa --clip runs/clip --output runs/zero-shot
    """
    folder = output if output != Path() else Path("runs") / data[0].resolve().stem
    try:
        with process_group(), reading(good, dataset, class_names), progress_bar() as progress:
            if method == "moeclip":
                summary = fit_moeclip(one_or_all(data), folder, clip, config, progress)
            else:
                settings = with_levels(read_settings(backbone, config), read_levels(levels))
                categories = fit_checkpoint(one_or_all(data), folder, settings, weights, progress)
                summary = categories and f"{folder}: {len(categories)} categories, {', '.join(categories)}"
    except KeyboardInterrupt:
        fail(f"stopped; the same command goes on from what {folder} holds")
    except _FIT_ERRORS as error:
        fail(str(error))
    if summary:
        console.print(summary)


@app.command("demo-data")
def demo_data(
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    train: Annotated[int, typer.Option(help="Normal training pictures of each product.")] = 400,
    test_good: Annotated[int, typer.Option(help="Normal test pictures of each product.")] = 60,
    test_defect: Annotated[int, typer.Option(help="Test pictures of each kind of defect.")] = 20,
    size: Annotated[int, typer.Option(help="Side in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="Another seed gives other pictures.")] = 0,
) -> None:
    """Draw the demo factory: three products with natural variation and nine kinds of defects with masks.

    \b
    Examples:
      anomoe-train demo-data runs/demo-data
    """
    with progress_bar() as progress:
        task = progress.add_task("draw", total=None)
        make_demo_data(
            output,
            seed=seed,
            train=train,
            test_good=test_good,
            test_defect=test_defect,
            size=size,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


@app.command("import-weights")
def import_weights(
    file: Annotated[
        str,
        typer.Argument(help="A .pth or safetensors file, or MODEL:TAG of a CLIP in open_clip's hub cache."),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the run.")],
    config: Annotated[
        Path | None, typer.Option(exists=True, help="JSON settings of the run in place of the released ones.")
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="CLIP of MoECLIP adapters; open_clip's ViT-L-14-336:openai by default.",
        ),
    ] = None,
) -> None:
    """Turn foreign weights into ours: released detectors of both methods, a DINOv2 ViT-B/14, a CLIP.

    Which it is, and whether it has register tokens or LeakyReLU, is seen from the names. Every tensor must be
    there, of the right shape, and none left over. An AnomalyMoE detector becomes a run without products;
    MoECLIP adapters and their CLIP, or a CLIP alone, a zero-shot run; a DINOv2 encoder (also timm's) the
    run's backbone.safetensors. CLIP is taken with GELU, as the released adapters were trained;
    `model.clip.activation` of the settings can be quick_gelu.

    \b
    Examples:
      anomoe-train import-weights anomalymoe.pth --output runs/released
      anomoe-train calibrate runs/released --data mvtec
      anomoe-train import-weights dinov2_vitb14_reg4_pretrain.pth --output runs/dinov2
      anomoe-train fit --data mvtec --backbone dinov2-reg-base --weights runs/dinov2/backbone.safetensors
      anomoe-train import-weights moeclip.pth --clip open_clip_model.safetensors --output runs/zero-shot
      anomoe-train import-weights ViT-L-14-336:openai --output runs/clip
    """
    try:
        settings = read_run_settings(config) if config else None
        if Path(file).is_file():
            imported = import_file(Path(file), output, settings, clip)
        else:
            imported = import_from_hub(file, output, settings)
    except (WeightsError, CheckpointError, OSError) as error:
        fail(str(error))
    console.print(f"{imported.path}: {imported.description}")


add_measuring(app)
add_demo(app)
add_insight(app)
add_segment(app)
