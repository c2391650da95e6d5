"""A small but complete MoECLIP bundle with weights chosen by hand, and what its words mean.

Input 40 x 40, patches of 8 x 8 (a 5 x 5 grid), E = 3: red, blue, damage. A patch is as red and as blue as its
colour, and twice as damaged as it is green: white spots on red or blue are anomalies. `brick` means red and
`slate` blue, `damage` and its like mean damage, other words nothing. Letters: B pictures, P prompts, r rows.
"""

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from export.contract.bundle import write_bundle
from export.contract.category import NormalScores
from export.contract.manifest import TOKENIZER, InputSpec, Manifest, ZeroShotSpec
from tests.tiny_bundle import Array, Constants, graph_spec

SIZE, PATCH, GRID, EMBEDDING, CONTEXT = 40, 8, 5, 3, 12
RED, BLUE, DAMAGE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
NOTHING = (0.0, 0.0, 0.0)
# The end token has the highest id, as CLIP's.
WORDS = {
    "<pad>": NOTHING,
    "<unknown>": NOTHING,
    "brick": RED,
    "slate": BLUE,
    "damage": DAMAGE,
    "damaged": DAMAGE,
    "broken": DAMAGE,
    "<start>": (0.01, 0.01, 0.0),
    "<end>": NOTHING,
}
NORMAL, ABNORMAL = ("{}", "a photo of a {}"), ("a damaged {}", "a {} with damage")

VISION = """
vision (uint8[B,40,40,3] image) => (float[B,25,3] tokens, float[B,3] summary, float[B,3] embedding) {
    unit = Cast<to=1>(image)
    scaled = Mul(unit, scale)
    channels_first = Transpose<perm=[0,3,1,2]>(scaled)
    means = AveragePool<kernel_shape=[8,8], strides=[8,8]>(channels_first)
    meanings = Conv(means, channels)
    flat = Reshape(meanings, flat_shape)
    patches = Transpose<perm=[0,2,1]>(flat)
    tokens = LpNormalization<axis=2, p=2>(patches)
    mean = ReduceMean<keepdims=0>(tokens, axis_1)
    highest = ReduceMax<keepdims=0>(tokens, axis_1)
    summary = LpNormalization<axis=1, p=2>(highest)
    colours = Mul(mean, undamaged)
    embedding = LpNormalization<axis=1, p=2>(colours)
}"""

TEXT = """
text (int64[P,12] tokens) => (float[P,3] features, float[P,3] embedding) {
    words = Gather<axis=0>(meaning, tokens)
    sum = ReduceSum<keepdims=0>(words, axis_1)
    features = LpNormalization<axis=1, p=2>(sum)
    embedding = LpNormalization<axis=1, p=2>(sum)
}"""

HEAD = """
head (float[B,25,3] tokens, float[B,3] summary, int64[r] rows, float[r,2,3] text, bool[r] medical)
    => (float[r,40,40] map, float[r] score) {
    seen = Gather<axis=0>(tokens, rows)
    text_columns = Transpose<perm=[0,2,1]>(text)
    cosines = MatMul(seen, text_columns)
    normal, abnormal = Split<axis=2, num_outputs=2>(cosines)
    margin = Sub(abnormal, normal)
    scaled = Mul(margin, temperature)
    grid = Reshape(scaled, grid_shape)
    padded_3 = Pad<mode="reflect">(grid, pads_3)
    industrial = Conv(padded_3, gaussian_7)
    padded_4 = Pad<mode="reflect">(grid, pads_4)
    for_medicine = Conv(padded_4, gaussian_9)
    is_medical = Reshape(medical, row_shape)
    smooth = Where(is_medical, for_medicine, industrial)
    large = Resize<mode="linear", coordinate_transformation_mode="align_corners">(smooth, , factors)
    flat = Squeeze(large, axis_1)
    map = Sigmoid(flat)
    highest = ReduceMax<keepdims=0>(map, axes_12)
    whole = Gather<axis=0>(summary, rows)
    whole_column = Unsqueeze(whole, axis_2)
    likeness_column = MatMul(text, whole_column)
    likeness = Squeeze(likeness_column, axis_2)
    logits = Mul(likeness, temperature)
    states = Softmax<axis=1>(logits)
    p_normal, p_abnormal_column = Split<axis=1, num_outputs=2>(states)
    p_abnormal = Squeeze(p_abnormal_column, axis_1)
    both = Add(highest, p_abnormal)
    mean_score = Mul(both, half)
    score = Where(medical, highest, mean_score)
}"""


def make_tiny_zero_shot_bundle(
    folder: Path,
    *,
    name: str = "tiny-zero-shot",
    version: str = "1",
    calibrated: tuple[str, ...] = (),
) -> Path:
    """Write the bundle to `folder` and return it; `calibrated`: class names with normal pictures."""
    graphs = {"vision": _model(VISION), "text": _model(TEXT), "head": _model(HEAD)}
    manifest = Manifest(
        kind="moeclip",
        name=name,
        version=version,
        created=datetime(2025, 1, 1, tzinfo=timezone.utc),
        source={"weights": "chosen by hand"},
        input=InputSpec(height=SIZE, width=SIZE, resize="bilinear"),
        graphs={key: graph_spec(key, model) for key, model in graphs.items()},
        top_k=2,
        grid=(GRID, GRID),
        map_size=(SIZE, SIZE),
        categories=calibrated,
        zero_shot=ZeroShotSpec(context_length=CONTEXT, normal=NORMAL, abnormal=ABNORMAL),
    )
    contents = {f"graphs/{key}.onnx": model.SerializeToString() for key, model in graphs.items()}
    contents[TOKENIZER] = tiny_tokenizer().to_str().encode()
    write_bundle(folder, manifest, contents, [tiny_normal_scores(one) for one in calibrated])
    return folder


def tiny_tokenizer() -> Tokenizer:
    """One token a word, lower case; CONTEXT ids that begin with <start>, end with <end>, then zeros."""
    ids = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(word, ids[word]) for word in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing("<start> $A <end>", special_tokens=special)
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(length=CONTEXT, pad_id=ids["<pad>"], pad_token="<pad>")
    return tokenizer


def tiny_normal_scores(name: str) -> NormalScores:
    """What 99 normal pictures of a class might score."""
    ramp = np.linspace(0.01, 0.2, 99, dtype=np.float32)
    return NormalScores(name=name, scores=ramp, peaks=ramp + np.float32(0.1))


def _model(text: str) -> onnx.ModelProto:
    graph = parser.parse_graph(text)
    used = {name for node in graph.node for name in node.input}
    for name, value in _constants().items():
        if name in used:
            graph.initializer.append(numpy_helper.from_array(value, name))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _constants() -> Constants:
    red_blue_green = np.array([[1, 0, 0], [0, 0, 1], [0, 2, 0]])[:, :, None, None]
    integers = {
        "axis_1": [1],
        "axis_2": [2],
        "axes_12": [1, 2],
        "flat_shape": [0, EMBEDDING, GRID * GRID],
        "grid_shape": [-1, 1, GRID, GRID],
        "row_shape": [-1, 1, 1, 1],
        "pads_3": [0, 0, 3, 3, 0, 0, 3, 3],
        "pads_4": [0, 0, 4, 4, 0, 0, 4, 4],
    }
    floats = {
        "scale": 1 / 255,
        "half": 0.5,
        "temperature": 100,
        "factors": [1, 1, SIZE / GRID, SIZE / GRID],
        "undamaged": [1, 1, 0],
        "meaning": list(WORDS.values()),
        "channels": red_blue_green,
        "gaussian_7": _gaussian(7, 1.0),
        "gaussian_9": _gaussian(9, 1.5),
    }
    return {
        **{name: np.array(value, np.int64) for name, value in integers.items()},
        **{name: np.array(value, np.float32) for name, value in floats.items()},
    }


def _gaussian(size: int, sigma: float) -> Array:
    line = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return (np.outer(line, line) / line.sum() ** 2)[None, None].astype(np.float32)
