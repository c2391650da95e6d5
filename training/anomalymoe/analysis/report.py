"""`anomoe-train analyse`: all that can be said about a checkpoint, as figures and as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

from export.contract.manifest import Level
from training.anomalymoe.analysis.looks import known_test_samples
from training.anomalymoe.analysis.maps import BY_LEVEL, OVERVIEW, draw_columns
from training.anomalymoe.analysis.redundancy import (
    Floats,
    expert_redundancy,
    mean_redundancy,
    redundancy_heat_maps,
    redundancy_json,
)
from training.anomalymoe.analysis.routing import RouterUse, router_use, routing_heat_maps, routing_json
from training.anomalymoe.analysis.routing_worth import Choice, routing_worth
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.evaluation.macs import Macs, count_macs, macs_json, macs_on_average
from training.data.dataset import Place
from training.data.pictures import DataError
from training.figures.heatmap import draw_below_each_other
from training.figures.sheet import draw_sheet
from training.reporting.macs import in_words
from training.reporting.rows import Row, percent
from training.runs.files import write_text

MAPS, LEVEL_MAPS, ROUTING, REDUNDANCY = "maps.png", "levels.png", "routing.png", "redundancy.png"
FIGURES = "analysis.json"


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found; macs_used: mean MACs of a test picture with the router's own choices.

    worth: figures of all defects when the experts are chosen otherwise.
    """

    routing: RouterUse
    worth: Mapping[Choice, Row]
    redundancy: Mapping[Level, Floats]
    macs: Macs
    macs_used: float


def analyse(checkpoint: Checkpoint, data: Place, output: Path, progress: Progress) -> Analysis:
    """Look at all test pictures and write figures and `analysis.json` into the folder `output`.

    Raises DataError when there are no test defects, or of a category that is not in the checkpoint.
    """
    samples = known_test_samples(checkpoint, data)
    if not any(one.is_anomalous for one in samples):
        raise DataError(f"{data}: no test defects found")
    routing = router_use(checkpoint, samples, progress)
    worth = routing_worth(checkpoint, data, progress)
    redundancy = expert_redundancy(checkpoint, samples, progress)
    macs = count_macs(checkpoint.config)
    used = macs_on_average(macs, routing.levels, routing.shares[-1].tolist())
    columns = draw_columns(checkpoint, samples, progress)
    output.mkdir(parents=True, exist_ok=True)
    figures = {
        MAPS: draw_sheet(columns, OVERVIEW),
        LEVEL_MAPS: draw_sheet(columns, BY_LEVEL),
        ROUTING: draw_below_each_other(routing_heat_maps(routing)),
        REDUNDANCY: draw_below_each_other(redundancy_heat_maps(redundancy, routing.experts)),
    }
    for name, figure in figures.items():
        figure.save(output / name, optimize=True)
    found = Analysis(routing, worth, redundancy, macs, used)
    write_text(output / FIGURES, analysis_json(found))
    return found


def analysis_json(found: Analysis) -> str:
    """Routing, redundancy and MACs as JSON; shares and gates are 0..1."""
    content = {
        "routing": routing_json(found.routing),
        "image_and_pixel_auroc_by_routing": {
            choice: [row.metrics.image_auroc, row.metrics.pixel_auroc] for choice, row in found.worth.items()
        },
        "redundancy": redundancy_json(found.redundancy),
        "macs": macs_json(found.macs) | {"used": found.macs_used},
    }
    return json.dumps(content, indent=2) + "\n"


def summary_table(found: Analysis) -> Table:
    """What is worth knowing first: dead experts, the least used one, redundancy, and the MACs in use."""
    table = Table("", "value", caption="redundancy: mean linear CKA of two experts")
    table.add_row("experts that no picture chose", ", ".join(found.routing.dead) or "none")
    table.add_row("share of the least used expert", f"{found.routing.least_share:.2f}")
    table.add_row("entropy of the gates (even: log of the chosen)", f"{found.routing.entropy[-1]:.2f}")
    for choice, row in found.worth.items():
        figures = " / ".join(map(percent, (row.metrics.image_auroc, row.metrics.pixel_auroc)))
        table.add_row(f"image / pixel AUROC, routing {choice}", figures)
    for level, cka_EE in found.redundancy.items():
        mean = mean_redundancy(cka_EE)
        table.add_row(f"redundancy of the {level} experts", "-" if mean is None else f"{mean:.2f}")
    table.add_row("MACs a picture with the router's choices", in_words(found.macs_used))
    table.add_row("MACs a picture with all experts", in_words(found.macs.dense))
    return table
