"""A checkpoint, its bundle and a service with it give the same figures."""

import json
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.cli import app
from export.contract.bundle import Bundle
from export.verify.evaluation import ServiceError, ask, evaluate_bundle, evaluate_service
from tests.service.running import service_process
from tests.training.tiny_run import quiet_progress, tiny_checkpoint
from training.anomalymoe.evaluation.evaluate import evaluate_checkpoint
from training.data.dataset import find_samples
from training.metrics import Metrics
from training.reporting.rows import AT_THRESHOLD, Row


def figures(row: Row) -> dict[str, float | None]:
    return asdict(row.metrics) | {name: getattr(row, name) for name in AT_THRESHOLD} | row.level_auroc


def assert_same(ours: list[Row], theirs: list[Row]) -> None:
    assert [(one.category, one.defects, one.pictures) for one in ours] == [
        (one.category, one.defects, one.pictures) for one in theirs
    ]
    for one, other in zip(ours, theirs, strict=True):
        assert figures(one) == pytest.approx(figures(other), abs=1e-3)


@pytest.mark.alone
def test_checkpoint_bundle_and_service_have_the_same_figures(
    scripted: Bundle, data: Path, tmp_path: Path
) -> None:
    rows = evaluate_checkpoint(tiny_checkpoint(), data, quiet_progress())
    assert {field.name for field in fields(Metrics) if getattr(rows[0].metrics, field.name) is not None} == {
        field.name for field in fields(Metrics)
    }
    assert_same(evaluate_bundle(scripted.folder, data, quiet_progress()), rows)
    with service_process(scripted.folder, tmp_path / "log") as service:
        assert_same(evaluate_service(service.url, None, data, quiet_progress()), rows)
        output = tmp_path / "figures.json"
        command = f"evaluate {service.url} --data {data / 'disc'} --output {output}"
        result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0, result.output
    (row, *_) = json.loads(output.read_text())["rows"]
    assert row["metrics"]["image_auroc"] == pytest.approx(rows[0].metrics.image_auroc, abs=1e-3)


def test_a_service_that_is_not_there_is_named(data: Path) -> None:
    sample = find_samples(data)[0]
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9: .*refused"):
        ask("http://127.0.0.1:9", None, sample)


def test_figures_are_written_by_suffix(scripted: Bundle, data: Path, tmp_path: Path) -> None:
    starts = {".csv": "dataset,category,defects,", ".md": "| dataset | category |", ".json": "{"}
    arguments = ["evaluate", str(scripted.folder), "--data", str(data / "disc"), "--output"]
    for suffix, start in starts.items():
        output = tmp_path / f"figures{suffix}"
        result = CliRunner().invoke(app, [*arguments, str(output)])
        assert result.exit_code == 0, result.output
        assert output.read_text().startswith(start)
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "figures.txt")])
    assert result.exit_code == 2
    assert "is none of .json, .csv, .md" in " ".join(result.output.replace("│", "").split())
