"""The commands of `anomoe-train` that make the zero-shot demo: things with captions, and a CLIP of them."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.options import console, fail, progress_bar
from training.demo.things.folders import make_folders
from training.demo.things.pairs import draw_pairs
from training.demo.tiny_clip.pretrain import PretrainConfig
from training.demo.tiny_clip.run import make_clip
from training.runs.resume import ResumeError

PAIRS = "pairs"


def add_demo(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("demo-things")(demo_things)
    app.command("demo-clip")(demo_clip)


def demo_things(
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    pairs: Annotated[
        int, typer.Option(min=1, help="Pairs of a whole and a damaged thing with captions.")
    ] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other pictures.")] = 0,
) -> None:
    """Draw single things, whole and damaged: pairs with captions, and data sets with masks.

    Writes `pairs`, and `training`, `validation`, `test` and `novel` in the MVTec folder form. No form of a
    thing is in two of the latter; novel ones are not among the pairs either.

    \b
    Examples:
      anomoe-train demo-things runs/demo-things
    """
    with progress_bar() as progress:
        drawing, writing = progress.add_task("pairs", total=pairs), progress.add_task("data sets", total=None)
        draw_pairs(output / PAIRS, pairs, seed, lambda done: progress.update(drawing, completed=done))
        make_folders(
            output, seed, progress=lambda done, total: progress.update(writing, completed=done, total=total)
        )
    console.print(f"{output}: {pairs} pairs and four data sets")


def demo_clip(
    things: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of demo-things.")],
    output: Annotated[Path, typer.Option(help="Folder of the run.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = PretrainConfig().steps,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another model.")] = 0,
) -> None:
    """Train a tiny CLIP from nothing on the pairs of demo-things.

    Stopped and started again with the same settings and pictures, it goes on where it was.

    \b
    Examples:
      anomoe-train demo-clip runs/demo-things --output runs/demo-clip
      anomoe-train fit --method moeclip --clip runs/demo-clip --config runs/demo-clip/fit.json \\
        --data runs/demo-things/training --output runs/zero-shot
    """
    try:
        with progress_bar() as progress:
            settings = make_clip(things / PAIRS, output, PretrainConfig(steps=steps, seed=seed), progress)
    except KeyboardInterrupt:
        fail(f"stopped; the same command goes on from what {output} holds")
    except (ResumeError, OSError, ValueError) as error:
        fail(str(error))
    console.print(f"{output}: trained; fit its adapters with --config {settings}")
