"""The manifest of a bundle: what was exported, from what, and how the graphs fit together."""

from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from export.contract.names import Name
from export.contract.provenance import Format, Frozen, LeftOut, Level, Precision, Verification

SCHEMA_VERSION = 1

ModelKind = Literal["anomalymoe", "moeclip"]

LEVELS: tuple[Level, ...] = ("patch", "component", "global")

TOKENIZER = "tokenizer.json"  # of a moeclip bundle, at its root

REQUIRED_GRAPHS = {"anomalymoe": ("backbone", "router", "head"), "moeclip": ("vision", "text", "head")}


class InputSpec(Frozen):
    """The picture the backbone takes; `crop` is the centre fraction of the resized picture that is kept.

    bit_depth: of samples of more than 8 bits where a file does not tell it, or not rightly.
    """

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    resize: Literal["bilinear", "bicubic"] = "bicubic"
    crop: float = Field(default=1.0, gt=0.0, le=1.0)
    colour: Literal["rgb"] = "rgb"
    bit_depth: int | None = Field(default=None, ge=8, le=16)


class TensorSpec(Frozen):
    """One graph input or output; a name instead of a number marks a dynamic axis."""

    dtype: str
    shape: tuple[int | str, ...]


class GraphSpec(Frozen):
    """One graph file and its signature.

    external: further files that hold its weights. opset: of ONNX. macs: multiply-accumulates of one picture.
    """

    path: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    external: tuple[str, ...] = ()
    opset: int | None = None
    macs: int | None = None


class ExpertSpec(Frozen):
    """One expert: its level, its number in the level, its router column and its key in `graphs`.

    chosen_by: by category, how many of its calibration pictures chose the expert; empty where not counted.
    """

    level: Level
    index: int = Field(ge=0)
    column: int = Field(ge=0)
    graph: str
    chosen_by: dict[Name, int] = Field(default={})


class CalibrationSpec(Frozen):
    """The accepted false-positive rate when a request names none."""

    alpha: float = Field(default=0.01, gt=0.0, lt=1.0)


class ZeroShotSpec(Frozen):
    """How class names become texts; `{}` in a prompt stands for the class name.

    context_length: tokens that the text graph takes. threshold: of scores and maps in 0..1 where no normal
    picture has calibrated the class name.
    """

    context_length: int = Field(gt=2)
    normal: tuple[str, ...] = Field(min_length=1)
    abnormal: tuple[str, ...] = Field(min_length=1)
    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _prompts_have_a_place(self) -> "ZeroShotSpec":
        wrong = [prompt for prompt in (*self.normal, *self.abnormal) if prompt.count("{}") != 1]
        if wrong:
            raise ValueError(f"prompts: {wrong[0]!r} has not exactly one {{}} for the class name")
        return self


class FileSpec(Frozen):
    """Size and SHA-256 (hexadecimal) of one file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Frozen):
    """All of manifest.json; `grid` and `map_size` are (height, width).

    top_k: experts a picture, or in a moeclip bundle a patch (0 without experts). categories: products, or the
    class names of a moeclip bundle that normal pictures have calibrated. created, verified: no part of the
    digest.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: ModelKind
    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    created: datetime
    source: dict[str, str | int | float | bool | None] = Field(default={})
    format: Format = "onnx"
    precision: Precision = "fp32"
    input: InputSpec
    graphs: dict[str, GraphSpec]
    experts: tuple[ExpertSpec, ...] = ()
    top_k: int = Field(ge=0)
    grid: tuple[int, int]
    map_size: tuple[int, int]
    categories: tuple[Name, ...] = ()
    calibration: CalibrationSpec = CalibrationSpec()
    zero_shot: ZeroShotSpec | None = None
    left_out: LeftOut = LeftOut()
    verified: Verification | None = None
    files: dict[str, FileSpec] = Field(default={})

    @model_validator(mode="after")
    def _graphs_are_complete(self) -> "Manifest":
        wanted = (*REQUIRED_GRAPHS[self.kind], *(expert.graph for expert in self.experts))
        missing = sorted(set(wanted) - set(self.graphs))
        if missing:
            raise ValueError(f"graphs: missing {', '.join(missing)}")
        if self.kind == "anomalymoe" and not (self.experts and self.categories and self.top_k):
            raise ValueError("experts, categories, top_k: an anomalymoe bundle needs at least one of each")
        return self

    @model_validator(mode="after")
    def _zero_shot_is_complete(self) -> "Manifest":
        if (self.zero_shot is not None) != (self.kind == "moeclip"):
            raise ValueError(
                f"zero_shot: belongs to kind 'moeclip', and got {self.kind!r} and {self.zero_shot}"
            )
        if self.zero_shot is None:
            return self
        tokens = self.graphs["text"].inputs.get("tokens")
        if tokens is None or tokens.shape[-1] != self.zero_shot.context_length:
            raise ValueError(
                f"zero_shot.context_length: {self.zero_shot.context_length}, "
                f"but graph 'text' takes tokens {tokens}"
            )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Manifest":
        columns = [expert.column for expert in self.experts]
        if len(set(columns)) != len(columns):
            raise ValueError(f"experts: router columns repeat in {columns}")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"categories: names repeat in {list(self.categories)}")
        paths = [path for graph in self.graphs.values() for path in (graph.path, *graph.external)]
        if len(set(paths)) != len(paths):
            raise ValueError(f"graphs: {max(paths, key=paths.count)} is the file of two graphs")
        return self
