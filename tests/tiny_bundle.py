"""A small but complete AnomalyMoE bundle with weights chosen by hand, and pictures for it.

Input 28 x 28, patches of 7 x 7 (a 4 x 4 grid), D = 8: three colour channels and five contrasts.
Plain pictures in the colour of a category are normal, spots are anomalies. Router columns: patch 0, 1;
component 2, 3; global 4, 5. Shape letters: B batch, b rows of one expert, M centres.
"""

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper, parser
from PIL import Image

from export.contract.appearance import STATISTICS
from export.contract.bundle import write_bundle
from export.contract.category import Category
from export.contract.manifest import LEVELS, ExpertSpec, GraphSpec, InputSpec, Level, Manifest, TensorSpec

SIZE, PATCH, GRID, WIDTH = 28, 7, 4, 8
COLUMNS: tuple[tuple[Level, int], ...] = tuple((level, index) for level in LEVELS for index in (0, 1))
COLOURS = {"brick": (200, 60, 40), "slate": (40, 70, 190)}

Array = npt.NDArray[np.float32]
Constants = dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]]

BACKBONE = """
backbone (uint8[B,28,28,3] image) => (float[B,17,8] features, float[B,8] cls) {
    unit = Cast<to=1>(image)
    scaled = Mul(unit, scale)
    centred = Sub(scaled, half)
    channels_first = Transpose<perm=[0,3,1,2]>(centred)
    grid = Conv<strides=[7,7]>(channels_first, filters)
    flat = Reshape(grid, flat_shape)
    patches = Transpose<perm=[0,2,1]>(flat)
    token = ReduceMean<keepdims=1>(patches, axis_1)
    features = Concat<axis=1>(token, patches)
    cls = Squeeze(token, axis_1)
}"""

ROUTER = """
router (float[B,8] cls) => (int64[B,K] experts, float[B,K] gates) {
    logits = MatMul(cls, weight)
    top, experts = TopK(logits, top_k)
    gates = Softmax(top)
}"""

# Energy of the contrast channels.
PATCH_EXPERT = """
patch (float[B,17,8] features, int64[b] rows) => (float[b,4,4] error) {
    tokens = Gather<axis=0>(features, rows)
    patches = Slice(tokens, axis_1, end, axis_1)
    contrast = Mul(patches, contrast_channels)
    energy = ReduceSumSquare<keepdims=0>(contrast, axis_2)
    gained = Mul(energy, gain)
    error = Reshape(gained, map_shape)
}"""

# Squared distance to the nearest valid centre.
COMPONENT_EXPERT = """
component (float[B,17,8] features, int64[b] rows, float[b,M,8] centres, bool[b,M] valid)
    => (float[b,4,4] error) {
    tokens = Gather<axis=0>(features, rows)
    patches = Slice(tokens, axis_1, end, axis_1)
    patches_now = Unsqueeze(patches, axis_2)
    centres_now = Unsqueeze(centres, axis_1)
    difference = Sub(patches_now, centres_now)
    distances = ReduceSumSquare<keepdims=0>(difference, axis_3)
    valid_now = Unsqueeze(valid, axis_1)
    candidates = Where(valid_now, distances, far)
    nearest = ReduceMin<keepdims=0>(candidates, axis_2)
    gained = Mul(nearest, gain)
    error = Reshape(gained, map_shape)
}"""

# Squared distance of each patch colour to the mean colour of the picture.
GLOBAL_EXPERT = """
global (uint8[B,28,28,3] image, float[B,17,8] features, int64[b] rows) => (float[b,4,4] error) {
    chosen = Gather<axis=0>(image, rows)
    unit = Cast<to=1>(chosen)
    scaled = Mul(unit, scale)
    channels_first = Transpose<perm=[0,3,1,2]>(scaled)
    pooled = AveragePool<kernel_shape=[7,7], strides=[7,7]>(channels_first)
    mean = ReduceMean<keepdims=1>(pooled, axes_23)
    difference = Sub(pooled, mean)
    distance = ReduceSumSquare<keepdims=0>(difference, axis_1)
    gained = Mul(distance, gain)
    error = Reshape(gained, map_shape)
}"""

# Upsample, smooth, add the levels; scores are means of the top 1 % of pixels.
HEAD = """
head (float[B,3,4,4] levels) => (float[B,28,28] map, float[B] score, float[B,3] level_scores) {
    large = Resize<mode="linear">(levels, , factors)
    smooth = Conv<group=3, pads=[2,2,2,2]>(large, gaussian)
    map = ReduceSum<keepdims=0>(smooth, axis_1)
    pixels = Reshape(map, pixel_shape)
    highest, where = TopK(pixels, top_pixels)
    score = ReduceMean<keepdims=0>(highest, axis_1)
    level_pixels = Reshape(smooth, level_pixel_shape)
    level_highest, level_where = TopK(level_pixels, top_pixels)
    level_scores = ReduceMean<keepdims=0>(level_highest, axis_2)
}"""

EXPERTS = {"patch": PATCH_EXPERT, "component": COMPONENT_EXPERT, "global": GLOBAL_EXPERT}


def make_tiny_bundle(
    folder: Path,
    *,
    name: str = "tiny",
    version: str = "1",
    top_k: int = 3,
    crop: float = 1.0,
    broken_expert: str | None = None,
) -> Path:
    """Write the bundle to `folder` and return it; the expert with key `broken_expert` fails when it runs."""
    graphs = {"backbone": _model(BACKBONE), "router": _model(ROUTER, top_k=top_k), "head": _model(HEAD)}
    for level, index in COLUMNS:
        key = f"expert-{level}-{index}"
        graphs[key] = _model(EXPERTS[level], gain=1.0 + index, broken=key == broken_expert)
    manifest = Manifest(
        kind="anomalymoe",
        name=name,
        version=version,
        created=datetime(2025, 1, 1, tzinfo=timezone.utc),
        source={"weights": "chosen by hand"},
        input=InputSpec(height=SIZE, width=SIZE, resize="bilinear", crop=crop),
        graphs={key: graph_spec(key, model) for key, model in graphs.items()},
        experts=tuple(
            ExpertSpec(level=level, index=index, column=column, graph=f"expert-{level}-{index}")
            for column, (level, index) in enumerate(COLUMNS)
        ),
        top_k=top_k,
        grid=(GRID, GRID),
        map_size=(SIZE, SIZE),
        categories=tuple(COLOURS),
    )
    contents = {f"graphs/{key}.onnx": model.SerializeToString() for key, model in graphs.items()}
    write_bundle(folder, manifest, contents, [tiny_category(name) for name in COLOURS])
    return folder


def tiny_category(name: str) -> Category:
    """The calibration of "brick" (two centres) or "slate" (three)."""
    colour = np.zeros(WIDTH, np.float32)
    colour[:3] = np.array(COLOURS[name], np.float32) / 255 - 0.5
    unit = (colour / np.linalg.norm(colour)).astype(np.float32)
    factors = np.array([1.0, 0.9, 1.1][: 2 + (name == "slate")], np.float32)
    return Category(
        name=name,
        centres=factors[:, None] * colour,
        prototype=unit,
        radius=0.3,
        appearance_mean=np.zeros(STATISTICS, np.float32),
        appearance_whitening=np.zeros((STATISTICS, STATISTICS), np.float32),
        distance_score=0.2,
        error_offset=_ramp(0.001, 0.002),
        error_scale=_ramp(0.05, 0.15),
        scores=np.linspace(0.01, 0.2, 199, dtype=np.float32),
        peaks=np.linspace(0.02, 0.3, 199, dtype=np.float32),
    )


def _ramp(start: float, stop: float) -> Array:
    """Values (E, h, w) of which no two are equal."""
    shape = (len(COLUMNS), GRID, GRID)
    return np.linspace(start, stop, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def plain_picture(category: str, size: tuple[int, int] = (56, 42)) -> Image.Image:
    """A normal picture of a category, (width, height) = `size`."""
    return Image.new("RGB", size, COLOURS[category])


def spotted_picture(category: str, size: tuple[int, int] = (56, 42)) -> Image.Image:
    """An anomalous picture: a white rectangle in the top left corner, 3/8 of each side."""
    picture = plain_picture(category, size)
    picture.paste((255, 255, 255), (0, 0, size[0] * 3 // 8, size[1] * 3 // 8))
    return picture


def unknown_picture(size: tuple[int, int] = (56, 42)) -> Image.Image:
    """A picture of no known category."""
    return Image.new("RGB", size, (60, 220, 60))


def _model(text: str, *, top_k: int = 3, gain: float = 1.0, broken: bool = False) -> onnx.ModelProto:
    graph = parser.parse_graph(text.replace("B,K", f"B,{top_k}"))
    used = {name for node in graph.node for name in node.input}
    side = GRID + 1 if broken else GRID
    for name, value in _constants(top_k, gain, side).items():
        if name in used:
            graph.initializer.append(numpy_helper.from_array(value, name))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _constants(top_k: int, gain: float, side: int) -> Constants:
    red_or_blue = np.zeros((WIDTH, len(COLUMNS)), np.float32)
    red_or_blue[0], red_or_blue[2] = (3, -3, 2, -2, 1, -1), (-3, 3, -2, 2, -1, 1)
    integers = {
        "axis_1": [1],
        "axis_2": [2],
        "axis_3": [3],
        "axes_23": [2, 3],
        "end": [1 + GRID * GRID],
        "flat_shape": [0, WIDTH, GRID * GRID],
        "map_shape": [-1, side, side],
        "pixel_shape": [0, -1],
        "level_pixel_shape": [0, 0, -1],
        "top_k": [top_k],
        "top_pixels": [SIZE * SIZE // 100],
    }
    floats = {
        "scale": 1 / 255,
        "half": 0.5,
        "gain": gain,
        "far": 1e6,
        "factors": [1, 1, SIZE / GRID, SIZE / GRID],
        "contrast_channels": [0, 0, 0, 1, 1, 1, 1, 1],
        "filters": _filters(),
        "gaussian": _gaussian(),
        "weight": red_or_blue,
    }
    return {
        **{name: np.array(value, np.int64) for name, value in integers.items()},
        **{name: np.array(value, np.float32) for name, value in floats.items()},
    }


def _filters() -> Array:
    """Three colour means and five contrasts that are zero on plain patches: (D, 3, 7, 7)."""
    ramp = np.linspace(-1, 1, PATCH)
    curve = ramp**2 - (ramp**2).mean()
    flat = np.ones(PATCH)
    filters = np.zeros((WIDTH, 3, PATCH, PATCH), np.float32)
    for channel in range(3):
        filters[channel, channel] = 1
    pairs = [(flat, ramp), (ramp, flat), (ramp, ramp), (flat, curve), (curve, flat)]
    for channel, (rows, columns) in enumerate(pairs, start=3):
        filters[channel] = np.outer(rows, columns)
    return (filters / PATCH**2).astype(np.float32)


def _gaussian() -> Array:
    """5 x 5, sigma 4, one for each level: (3, 1, 5, 5)."""
    line = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 4.0**2))
    return np.tile(np.outer(line, line) / line.sum() ** 2, (3, 1, 1, 1)).astype(np.float32)


def graph_spec(key: str, model: onnx.ModelProto) -> GraphSpec:
    """The signature of a hand-written graph."""
    return GraphSpec(
        path=f"graphs/{key}.onnx",
        inputs={value.name: _tensor_spec(value) for value in model.graph.input},
        outputs={value.name: _tensor_spec(value) for value in model.graph.output},
    )


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    return TensorSpec(dtype=helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape=shape)
