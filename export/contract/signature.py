"""Whether the graphs of a manifest fit together: names, types and shapes of what passes between them."""

from collections.abc import Iterator

from export.contract.manifest import LEVELS, GraphSpec, Manifest, TensorSpec

# By graph, or by level for an expert: inputs, then outputs. A small letter is a dynamic axis of any name, a
# number itself; capital letters are sizes, equal in all graphs: H W picture, T tokens, F features, D width,
# V width of cls, K chosen experts, L levels, P Q patch grid, N patches, E embedding, C context, Y X map.
_FEATURES, _ROWS, _ERROR = "features float32 bTF", "rows int64 b", "error float32 bPQ"
_TOKENS, _SUMMARY = "tokens float32 bNE", "summary float32 bE"
_IMAGE, _CLS = "image uint8 bHW3", "cls float32 bV"
_SIGNATURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "backbone": ((_IMAGE,), (_FEATURES, _CLS)),
    "router": ((_CLS,), ("experts int64 bK", "gates float32 bK")),
    "patch": ((_FEATURES, _ROWS), (_ERROR,)),
    "component": ((_FEATURES, _ROWS, "centres float32 bmD", "valid bool bm"), (_ERROR,)),
    "global": ((_IMAGE, _FEATURES, _ROWS), (_ERROR,)),
    "head": (("levels float32 bLPQ",), ("map float32 bYX", "score float32 b", "level_scores float32 bL")),
    "vision": ((_IMAGE,), (_TOKENS, _SUMMARY, "embedding float32 bE")),
    "text": (("tokens int64 bC",), ("features float32 bE", "embedding float32 bE")),
    "zero-shot head": (
        (_TOKENS, _SUMMARY, _ROWS, "text float32 b2E", "medical bool b"),
        ("map float32 bYX", "score float32 b"),
    ),
}


def check_signatures(manifest: Manifest) -> None:
    """Raise ValueError naming the file of the first graph whose signature does not fit the others."""
    sizes = _known_sizes(manifest)
    for kind, graph in _graphs(manifest):
        for names, found in zip(_SIGNATURES[kind], (graph.inputs, graph.outputs), strict=True):
            wanted = [line.split() for line in names]
            if set(found) != {name for name, _, _ in wanted}:
                raise ValueError(f"{graph.path}: has {list(found)}, not {[name for name, _, _ in wanted]}")
            for name, dtype, letters in wanted:
                _check_tensor(f"{graph.path}: {name}", found[name], dtype, letters, sizes)


def _graphs(manifest: Manifest) -> Iterator[tuple[str, GraphSpec]]:
    """What is to be found and where, in the order of the forward pass."""
    if manifest.kind == "anomalymoe":
        yield from ((key, manifest.graphs[key]) for key in ("backbone", "router"))
        yield from ((expert.level, manifest.graphs[expert.graph]) for expert in manifest.experts)
        yield "head", manifest.graphs["head"]
    else:
        yield from ((key, manifest.graphs[key]) for key in ("vision", "text"))
        yield "zero-shot head", manifest.graphs["head"]


def _known_sizes(manifest: Manifest) -> dict[str, int]:
    (rows, columns), (height, width) = manifest.grid, manifest.map_size
    picture = {"H": manifest.input.height, "W": manifest.input.width}
    sizes = picture | {
        "L": len(LEVELS),
        "P": rows,
        "Q": columns,
        "N": rows * columns,
        "Y": height,
        "X": width,
    }
    if manifest.zero_shot is not None:
        return sizes | {"C": manifest.zero_shot.context_length}
    return sizes | {"K": manifest.top_k}


def _check_tensor(where: str, found: TensorSpec, dtype: str, letters: str, sizes: dict[str, int]) -> None:
    """Compare one tensor; sizes that are seen for the first time are remembered."""
    if found.dtype != dtype:
        raise ValueError(f"{where} is {found.dtype}, not {dtype}")
    if len(found.shape) != len(letters):
        raise ValueError(f"{where} has shape {found.shape}, not {len(letters)} axes")
    for letter, size in zip(letters, found.shape, strict=True):
        if letter.islower() != isinstance(size, str):
            kind = "dynamic" if letter.islower() else "fixed"
            raise ValueError(f"{where} has shape {found.shape}, where {size!r} must be {kind}")
        if isinstance(size, str):
            continue
        known = int(letter) if letter.isdigit() else sizes.setdefault(letter, size)
        if size != known:
            raise ValueError(f"{where} has shape {found.shape}, where {size} must be {known}")
