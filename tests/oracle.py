"""Compare our models with reference figures: `python -m tests.oracle anomalymoe|moeclip CASE`.

CASE is the path of a case's JSON, with its figures beside it as .npz, or its name in FOLDER. Weights and
inputs are made from the seed and the names, so a case needs no checkpoint.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tests import oracle_anomalymoe, oracle_moeclip

FOLDER = Path(os.environ.get("ANOMOE_ORACLE", Path(__file__).parents[2] / "shared" / "oracle"))
TOLERANCE = 1e-4

Figures = Mapping[str, NDArray[np.float32]]

# From a case's JSON text, and inputs stored with its figures, to the arrays that these hold, by our model.
MODELS: dict[str, Callable[[str, Figures], dict[str, Tensor]]] = {
    "anomalymoe": lambda settings, _: oracle_anomalymoe.arrays(settings),
    "moeclip": oracle_moeclip.arrays,
}
INPUTS = {"text_tokens"}


def main(arguments: Sequence[str]) -> int:
    """Print the relative error of every array; 0 when all are within TOLERANCE, 2 for wrong usage.

    A case that cannot be built says why, with exit code 1.
    """
    if len(arguments) != 2 or arguments[0] not in MODELS:
        print(f"usage: python -m tests.oracle {{{','.join(MODELS)}}} CASE", file=sys.stderr)
        return 2
    path = find_case(arguments[1])
    if path is None:
        print(f"no case {arguments[1]!r} with its .npz, here or in {FOLDER}", file=sys.stderr)
        return 1
    try:
        errors = check(arguments[0], path)
    except ValueError as error:  # of settings that are impossible, weights that do not fit
        print(f"{path}: {error}", file=sys.stderr)
        return 1
    for name, error in errors.items():
        print(f"{name:24} {error:9.2e} {'ok' if error <= TOLERANCE else 'TOO LARGE'}")
    return 0 if all(error <= TOLERANCE for error in errors.values()) else 1


def find_case(case: str) -> Path | None:
    """The JSON of a case given by path or by name; None when it or its figures are absent."""
    candidates = (Path(case).with_suffix(".json"), (FOLDER / case).with_suffix(".json"))
    return next((path for path in candidates if path.exists() and path.with_suffix(".npz").exists()), None)


def check(model: str, path: Path) -> dict[str, float]:
    """Relative error of every array of one case."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as reference:
        return relative_errors(MODELS[model](path.read_text(), reference), reference)


def relative_errors(ours: Mapping[str, Tensor], reference: Figures) -> dict[str, float]:
    """Largest difference over largest reference value, by array; infinite for a missing or misshapen one."""
    results = {name: expected for name, expected in reference.items() if name not in INPUTS}
    return {name: _relative_error(ours.get(name), expected) for name, expected in results.items()}


def _relative_error(ours: Tensor | None, expected: NDArray[np.float32]) -> float:
    if ours is None or tuple(ours.shape) != expected.shape:
        return float("inf")
    if not expected.size:  # of a level without experts
        return 0.0
    difference = np.abs(ours.numpy().astype(np.float64) - expected).max()
    # A level that no picture chose is all zeros: compare absolutely.
    return float(difference / (np.abs(expected).max() or 1.0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
