"""Every alert fires for its cause, and not for what is just short of it, nor over normal traffic."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from generate import FOREIGN, series
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.app import create_app
from service.metrics import Metrics
from service.models.loading import load_models
from tests.service.conftest import settings_for
from tests.tiny_bundle import make_tiny_bundle

RULES = sorted(Path("docker/prometheus/rules").glob("*.yml"))
ALERTS = re.findall(r"alert: (\w+)", "".join(rule.read_text() for rule in RULES))
MINUTES = 240  # of which the last is looked at; longer windows of rules see what there is
WORK = 'anomoe_requests_total{endpoint="/detect",status="%s"}'
EXPERT = 'anomoe_expert_selected_total{level="patch",expert="%s"}'
RELOAD = 'anomoe_last_reload_timestamp_seconds{result="%s"}'
SLOW = 'anomoe_request_seconds_bucket{endpoint="/detect",le="1.0"}'

pytestmark = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def grows(by: float, since: int = 0) -> str:
    """A counter that grows by so much a minute, from a minute on."""
    before = f"0+0x{since} " if since else ""
    return f"{before}0+{by}x{MINUTES - since}"


def stands(at: float) -> str:
    """A gauge."""
    return f"{at}+0x{MINUTES}"


def stops(by: float, at: int) -> str:
    """A counter that grows until a minute and then no more."""
    return f"0+{by}x{at} {by * at}+0x{MINUTES - at}"


NORMAL = {
    "up": stands(1),
    "anomoe_ready": stands(1),
    WORK % 200: grows(600),
    WORK % 500: grows(0),
    WORK % 504: grows(0),
    SLOW: grows(599),
    'anomoe_request_seconds_count{endpoint="/detect"}': grows(600),
    "anomoe_admitted": stands(8),
    "anomoe_queue_capacity": stands(64),
    'anomoe_deadline_missed_total{stage="queue"}': grows(0),
    'anomoe_rejected_total{reason="busy"}': grows(0),
    'anomoe_rejected_total{reason="deadline"}': grows(0),
    'anomoe_stage_failures_total{stage="engine"}': grows(0),
    RELOAD % "done": stands(1000),
    RELOAD % "refused": stands(0),
    "anomoe_gpu_missing": stands(0),
    'anomoe_drift_alarm{category="tile"}': stands(0),
    'anomoe_images_total{category="tile"}': grows(600),
    'anomoe_images_total{category="unknown"}': grows(1),
    'anomoe_anomalies_total{category="tile"}': grows(6),
    'anomoe_not_this_product_total{category="tile"}': grows(1),
    'anomoe_alpha{category="tile"}': stands(0.01),
    'anomoe_calibration_size{category="tile"}': stands(999),
    EXPERT % 0: grows(500),
    EXPERT % 1: grows(5),
}

Series = dict[str, str]
# By alert: what makes it fire, and what is just short of that.
CAUSES: dict[str, tuple[Series, Series]] = {
    "AnomoeDown": ({"up": stands(0)}, {"up": f"1+0x{MINUTES - 1} 0"}),
    "AnomoeNotReady": ({"anomoe_ready": stands(0)}, {"anomoe_ready": f"1+0x{MINUTES - 1} 0"}),
    "AnomoeErrors": ({WORK % 500: grows(1)}, {WORK % 500: stops(1, MINUTES - 10)}),
    "AnomoeAvailabilityBurnsFast": ({WORK % 504: grows(10)}, {WORK % 504: grows(8)}),
    "AnomoeAvailabilityBurnsSlowly": ({WORK % 504: grows(4)}, {WORK % 504: grows(3)}),
    "AnomoeLatencyBurnsFast": ({SLOW: grows(510)}, {SLOW: grows(516)}),
    "AnomoeLatencyBurnsSlowly": ({SLOW: grows(560)}, {SLOW: grows(566)}),
    "AnomoeQueueNearCapacity": ({"anomoe_admitted": stands(51)}, {"anomoe_admitted": stands(44)}),
    "AnomoeDeadlinesMissed": (
        {'anomoe_deadline_missed_total{stage="queue"}': grows(7)},
        {'anomoe_deadline_missed_total{stage="queue"}': grows(5)},
    ),
    "AnomoeRefusals": (
        {'anomoe_rejected_total{reason="busy"}': grows(40)},
        {'anomoe_rejected_total{reason="busy"}': grows(25)},
    ),
    "AnomoeStageFailed": (
        {'anomoe_stage_failures_total{stage="engine"}': f"0+0x{MINUTES - 5} 1+0x5"},
        {'anomoe_stage_failures_total{stage="engine"}': stands(1)},
    ),
    "AnomoeReloadFailed": ({RELOAD % "refused": stands(2000)}, {RELOAD % "refused": stands(900)}),
    "AnomoeGpuUnused": (
        {"anomoe_gpu_missing": stands(1)},
        {"anomoe_gpu_missing": f"1+0x{MINUTES - 1} 0"},
    ),
    "AnomoeDrift": (
        {'anomoe_drift_alarm{category="tile"}': stands(1)},
        {'anomoe_drift_alarm{category="tile"}': f"1+0x{MINUTES - 1} 0"},
    ),
    "AnomoeRejectsAboveAlpha": (
        {'anomoe_anomalies_total{category="tile"}': grows(20)},
        {'anomoe_anomalies_total{category="tile"}': grows(16)},
    ),
    "AnomoeUnknownProduct": (
        {'anomoe_images_total{category="unknown"}': grows(80)},
        {'anomoe_images_total{category="unknown"}': grows(60)},
    ),
    "AnomoeNotThisProduct": (
        {'anomoe_not_this_product_total{category="tile"}': grows(70)},
        {'anomoe_not_this_product_total{category="tile"}': grows(50)},
    ),
    "AnomoeExpertSilent": ({EXPERT % 1: stops(5, MINUTES - 70)}, {EXPERT % 1: stops(5, MINUTES - 50)}),
}


def test_the_rules_are_sound() -> None:
    promtool("check", "rules", *RULES)


def test_the_configuration_is_sound() -> None:
    promtool("check", "config", "docker/prometheus/prometheus.yml")


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The metrics of a service that was asked nothing yet."""
    settings = settings_for(make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny"))
    metrics = Metrics()
    with TestClient(create_app(settings, load_models(settings, metrics), metrics)) as service:
        return service.get("/metrics").text


def test_metrics_are_sound(idle: str) -> None:
    promtool("check", "metrics", given=idle)


def test_an_idle_service_has_every_series_that_the_rules_ask_for(idle: str) -> None:
    samples = [sample for family in text_string_to_metric_families(idle) for sample in family.samples]
    groups = [group for rule in RULES for group in yaml.safe_load(rule.read_text())["groups"]]
    asked = {one for group in groups for rule in group["rules"] for one in series(rule["expr"])}
    own = {(name, matchers) for name, matchers in asked if ":" not in name and name not in FOREIGN}
    assert len(own) > 20
    missing = [
        f"{name}{{{matchers}}}"
        for name, matchers in own
        if not any(name == sample.name and matches(sample.labels, matchers) for sample in samples)
    ]
    assert missing == []


def matches(labels: dict[str, str], matchers: str) -> bool:
    """Whether labels are as the matchers of an expression ask."""
    asked = re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers)
    found = [(bool(re.fullmatch(value, labels[name])), "!" in sign) for name, sign, value in asked]
    return all(is_like != is_denied for is_like, is_denied in found)


def test_every_alert_has_a_case() -> None:
    assert sorted(CAUSES) == sorted(ALERTS)


def test_alerts_fire_for_their_cause_only(tmp_path: Path) -> None:
    """For each alert one instance has its cause and one what is just short of it; a last one is normal.

    What else a cause sets off does not matter: an error of the service also burns its budget.
    """
    instances = {"normal": NORMAL}
    for alert, (cause, short) in CAUSES.items():
        instances[alert] = {**NORMAL, **cause}
        instances[f"short of {alert}"] = {**NORMAL, **short}
    series = [
        {"series": labelled(name, instance), "values": values}
        for instance, given in instances.items()
        for name, values in given.items()
    ]
    looked_at = [(alert, f"(short of )?{alert}|normal") for alert in CAUSES]
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": "count by (instance) (ALERTS"
                f'{{alertname="{alert}",instance=~"{ones}",alertstate="firing"}})',
                "eval_time": f"{MINUTES}m",
                "exp_samples": [{"labels": f'{{instance="{alert}"}}', "value": 1}],
            }
            for alert, ones in looked_at
        ],
    }
    file = tmp_path / "cases.yml"
    rules = [str(rule.resolve()) for rule in RULES]
    file.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "4m", "tests": [test]}))
    promtool("test", "rules", file)


def promtool(*arguments: str | Path, given: str | None = None) -> None:
    """Run it; it must find nothing wrong."""
    done = subprocess.run(["promtool", *arguments], input=given, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def labelled(series: str, instance: str) -> str:
    """A series with the labels that Prometheus adds."""
    name, _, labels = series.partition("{")
    return f'{name}{{job="anomoe",instance="{instance}"{"," if labels else "}"}{labels}'
