"""What the commands of `anomoe-train` share: options, progress, and how they fail."""

import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NoReturn, get_args

import typer
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from export.contract.manifest import LEVELS, Level
from training.anomalymoe.evaluation.protocol import Normalisation, Protocol, View
from training.anomalymoe.fit_config import BackboneName, FitConfig, preset
from training.data.dataset import Place, Places
from training.data.sets.known import known
from training.data.sets.mvtec import GOOD_NAMES, taken_for_good
from training.data.sets.reading import read_as
from training.data.sets.samples import DataError
from training.distributed import is_main
from training.moeclip.scoring import Ranking
from training.reporting.reference import Method, published_figure, reference_figures
from training.reporting.rows import Requirement
from training.runs.files import read_settings as read_file
from training.runs.progress import progress_on

console = Console(width=None if sys.stdout.isatty() else 160)  # a table in a file needs no wrapping

DataPaths = Annotated[
    list[Path],
    typer.Option(exists=True, help="Category folder, folder of categories, or JSONL list; may be repeated."),
]
DEFAULT_BACKBONE: BackboneName = "efficientnet-lite0"
BackboneOption = Annotated[str, typer.Option(help=f"One of {', '.join(get_args(BackboneName))}.")]
GoodOption = Annotated[
    str, typer.Option("--good", help="Names of the folders of normal pictures, in any case.")
]
ProtocolName = Literal["serving", "full", "paper", "released", "moeclip"]
ProtocolOption = Annotated[
    ProtocolName,
    typer.Option(
        help="serving (or full): pictures and scores as served. paper: 448 pixels cropped to 392 (7/8), of a "
        "moeclip run the score of Eq. 14. released (moeclip for such a run): as the released script of the "
        "method, which scales by the test set."
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(help="The published data set in the folder, such as VisA; by default it is recognised."),
]
ClassNamesOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="moeclip: JSON with a description of each category."),
]
ALL_GOOD_NAMES = ",".join(GOOD_NAMES)
ConfigOption = Annotated[
    Path | None,
    typer.Option(exists=True, help="JSON settings; what it leaves out is the backbone's preset."),
]
WeightsOption = Annotated[Path | None, typer.Option(exists=True, help="Local file of a trained backbone.")]


_CLASS_NAMES = TypeAdapter(dict[str, str])


class _BackboneOnly(BaseModel):
    model_config = ConfigDict(extra="ignore")

    backbone: BackboneName | None = None


def one_or_all(data: list[Path]) -> Place:
    """A data set, or several as one."""
    return data[0] if len(data) == 1 else Places(data)


def read_settings(backbone: str, config: Path | None) -> FitConfig:
    """The preset of a backbone, or of that which the file names, with what the file says in its place.

    Raises CheckpointError or BadParameter.
    """
    named = read_file(config, _BackboneOnly).backbone if config else None
    for name in get_args(BackboneName):
        if name == (named or backbone):
            return read_file(config, FitConfig, preset(name)) if config else preset(name)
    raise typer.BadParameter(f"--backbone: {backbone!r} is none of {', '.join(get_args(BackboneName))}")


def read_requirement(text: str) -> Requirement:
    """`GROUP:METRIC=LEAST`. Raises BadParameter for anything else."""
    try:
        return Requirement.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"--require: {error}") from error


def read_protocol(name: ProtocolName, masks: Path | None, normalise: Normalisation) -> Protocol:
    """How test pictures are prepared and scaled. Raises BadParameter for what does not go together."""
    view: View = "full" if name in ("full", "serving") else "paper"
    if name == "moeclip":
        raise typer.BadParameter("--protocol: moeclip is of runs of that method, for others released is")
    try:
        return Protocol(view, masks, "released" if name == "released" else normalise)
    except ValueError as error:
        raise typer.BadParameter(f"--masks: {error}") from error


def read_ranking(name: ProtocolName) -> Ranking:
    """By what a moeclip run ranks pictures."""
    rankings: dict[ProtocolName, Ranking] = {"paper": "paper", "moeclip": "moeclip", "released": "moeclip"}
    return rankings.get(name, "serving")


def read_dataset(name: str, method: Method) -> str:
    """A data set that the paper of the method has figures for. Raises BadParameter for another one."""
    if published_figure(method, name) is None:
        known = dict.fromkeys(figure.dataset for figure in reference_figures(method, 1))
        raise typer.BadParameter(f"--beside: {name!r} is none of {', '.join(known)}")
    return name


@contextmanager
def reading(good: str, dataset: str | None, class_names: Path | None = None) -> Iterator[None]:
    """Within it, folders are read as these options say. Raises BadParameter naming the option."""
    try:
        text = class_names.read_bytes().removeprefix(BOM_UTF8) if class_names else b"{}"
        names = _CLASS_NAMES.validate_json(text)
    except ValidationError as error:
        raise typer.BadParameter(
            f"--class-names: {class_names}: a JSON object with a text for each category is expected: {error}"
        ) from error
    with taken_for_good(good.split(",")), read_as(_known(dataset), names):
        yield


def _known(dataset: str | None) -> str | None:
    try:
        return dataset and known(dataset).name
    except DataError as error:
        raise typer.BadParameter(f"--dataset: {error}") from error


def read_levels(text: str) -> tuple[Level, ...]:
    """Level names separated by commas. Raises BadParameter for an unknown one."""
    names = text.split(",")
    unknown = [name for name in names if name not in LEVELS]
    if unknown:
        raise typer.BadParameter(f"--levels: {unknown[0]!r} is none of {', '.join(LEVELS)}")
    return tuple(level for level in LEVELS if level in names)


def progress_bar() -> Progress:
    """Progress of the first process, on the error stream."""
    return progress_on(Console(stderr=True), is_shown=is_main())


def fail(reason: str) -> NoReturn:
    """End with exit code 1 and one line on the error stream."""
    line = Text(f"anomoe-train: {' '.join(reason.split())}", style="red")  # a path may look like markup
    Console(stderr=True).print(line, soft_wrap=True)
    raise typer.Exit(1)
