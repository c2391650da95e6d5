"""Sheets of test pictures with their maps: those judged best, worst, and nearest to the line between."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.contract.manifest import InputSpec
from training.data.pictures import load_mask, load_picture
from training.figures.sheet import Column, Tile, blend, draw_sheet, mark_truth
from training.reporting.scored import Bools, Floats, Scored, file_name

EACH = 4  # pictures of a kind
_HOT = np.array([255.0, 60.0, 0.0])
_ROWS = ("picture", "truth", "map")


def draw_examples(scored: Scored, spec: InputSpec, folder: Path) -> None:
    """Write `<category>.png`: the pictures judged worst, nearest to the line, and best, with their scores."""
    rows = {name: chosen for name, chosen in examples(scored).items() if len(chosen)}
    maps = {row: scored.maps[row] for chosen in rows.values() for row in chosen}
    line = scored.pixel_threshold
    low, high = (
        (0.0, 2 * line)
        if line is not None
        else (min(float(one.min()) for one in maps.values()), max(float(one.max()) for one in maps.values()))
    )
    columns = [
        _column(scored, row, name, (maps[row] - low) / max(high - low, 1e-12), spec)
        for name, chosen in rows.items()
        for row in chosen
    ]
    scale = "from least to largest value here" if line is None else "half its strength at the threshold"
    sheet = draw_sheet(columns, _ROWS, f"blue: true defect; orange: anomaly, {scale}; numbers are scores")
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / f"{file_name(scored.samples[0].category)}.png", optimize=True)


def examples(scored: Scored, each: int = EACH) -> dict[str, npt.NDArray[np.int64]]:
    """Numbers of the pictures judged worst, nearest to the line, and best, the most telling first."""
    labels = np.array([one.is_anomalous for one in scored.samples])
    margin = (scored.scores - dividing_line(scored.scores, labels, scored.alarms)) * np.where(labels, 1, -1)
    order = np.argsort(margin, kind="stable")
    wrong, right = order[margin[order] < 0], order[margin[order] >= 0]
    nearest = np.argsort(np.abs(margin), kind="stable")
    return {"worst": wrong[:each], "borderline": nearest[:each], "best": right[::-1][:each]}


def dividing_line(scores: Floats, labels: Bools, alarms: Bools | None) -> float:
    """The score between pictures with and without an alarm; without both, between the means of the states."""
    above = labels if alarms is None or alarms.all() or not alarms.any() else alarms
    if above.all() or not above.any():
        return float(np.median(scores))
    if above is alarms:
        return float((scores[~above].max() + scores[above].min()) / 2)
    return float((scores[~above].mean() + scores[above].mean()) / 2)


def _column(scored: Scored, row: int, name: str, heat_HW: Floats, spec: InputSpec) -> Column:
    sample = scored.samples[row]
    height, width = heat_HW.shape
    seen = spec.model_copy(update={"height": height, "width": width})
    picture: Tile = load_picture(sample.path, seen)
    truth = mark_truth(picture, load_mask(sample, seen))
    tiles = {"picture": picture, "truth": truth, "map": blend(picture, np.clip(heat_HW, 0, 1), _HOT)}
    return Column(f"{name} {scored.scores[row]:.3g}", sample.kind, tiles)
