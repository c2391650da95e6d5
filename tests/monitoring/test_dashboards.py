"""Dashboards are as generated, and ask for nothing that nobody defines."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from generate import RULES, faults, known_series, rendered
from panels import DASHBOARDS

from service.metrics import Metrics

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "docker" / "grafana"
KNOWN = known_series(Metrics().labels)


def check(folder: Path = GRAFANA) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, folder / "generate.py", "--check"]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_files_are_as_generated(name: str) -> None:
    """`make check` has no part of this; a stale file fails here and in `--check`."""
    assert (GRAFANA / "dashboards" / f"{name}.json").read_text() == rendered(name, DASHBOARDS[name])


@pytest.mark.alone
def test_check_finds_nothing() -> None:
    done = check()
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.alone
def test_check_finds_what_is_wrong(tmp_path: Path) -> None:
    docker = Path(shutil.copytree(ROOT / "docker", tmp_path / "docker"))
    (docker / "grafana" / "dashboards" / "machine.json").write_text("{}")
    (docker / "grafana" / "dashboards" / "forgotten.json").write_text("{}")
    panels = docker / "grafana" / "panels.py"
    panels.write_text(panels.read_text().replace("anomoe_gpu_missing{", "anomoe_gpu_mising{"))
    done = check(docker / "grafana")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "machine, Device: no metric anomoe_gpu_mising",
        "forgotten.json is stale: python docker/grafana/generate.py",
        "machine.json is stale: python docker/grafana/generate.py",
    ]


@pytest.mark.parametrize(
    ("expression", "legend", "fault"),
    [
        ("anomoe_ready", "{{instance}}", None),
        ("sum by (le) (rate(anomoe_score_bucket[5m]))", "", None),
        ('up{job="anomoe"}', "", None),
        ("rate(up[$__rate_interval]) and on (job) anomoe_ready offset 5m unless up > bool 1e3", "", None),
        ("anomoe_reddy", "", "no metric anomoe_reddy"),
        ("anomo_ready", "", "no metric anomo_ready"),
        ("rate(go_gc_seconds_count [5m])", "", "no metric go_gc_seconds_count"),
        ("anomoe_ready {instanze='a'}", "", "anomoe_ready has no label instanze"),
        ("anomoe_ready offset 1h and on (job) node_load1 > bool 1e3", "", "no metric node_load1"),
        ("category:anomoe_rejects:ratio2h", "", "no metric category:anomoe_rejects:ratio2h"),
        ('anomoe_ready{category="tile"}', "", "anomoe_ready has no label category"),
        ("sum by (level) (anomoe_images_total)", "", "no label level"),
        ("anomoe_images_total", "{{expert}}", "no label expert"),
    ],
)
def test_what_nobody_defines_is_found(expression: str, legend: str, fault: str | None) -> None:
    found = list(faults(expression, KNOWN, legend))
    assert found == [] if fault is None else any(fault in one for one in found)


def test_the_rules_ask_for_what_is_there() -> None:
    groups = [group for file in RULES.glob("*.yml") for group in yaml.safe_load(file.read_text())["groups"]]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 30
    assert [fault for rule in rules for fault in faults(rule["expr"], KNOWN)] == []
    for rule in rules:  # a label that the summary shows is there
        summary = rule.get("annotations", {}).get("summary", "")
        labels = re.findall(r"\$labels\.(\w+)", summary)
        legend = "".join(f"{{{{{label}}}}}" for label in labels)
        assert list(faults(rule["expr"], KNOWN, legend)) == []


def test_ids_and_places_are_distinct() -> None:
    for name in DASHBOARDS:
        panels = json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text())["panels"]
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
        assert len(places) == len(panels) == len({panel["id"] for panel in panels})
