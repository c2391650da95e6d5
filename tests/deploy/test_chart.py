"""The chart gives what Kubernetes takes, hardened, for every way to run it; what cannot work is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.pod_rules import broken_rules

helm = pytest.importorskip("helm_python", reason="Helm as a library is built for Linux on x86-64 only")
validation = pytest.importorskip("kubernetes_validate")
manifests = pytest.importorskip("deploy.manifests")

ROOT = Path(__file__).parents[2]
KUBERNETES = "1.34"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
KEYS = {"apiKeys": {"existingSecret": "keys"}}
PULL = {"source": "pull", "pull": [{"name": "tile", "from": "https://models.example/tile", "digest": DIGEST}]}
MONITORED = {
    "serviceMonitor": True,
    "rules": True,
    "dashboards": True,
    "labels": {"release": "prometheus"},
}
VALUES: dict[str, dict[str, Any]] = {
    "keys": KEYS,
    "open": {"apiKeys": {"required": False}, "networkPolicy": {"enabled": False}},
    "claims": {
        **KEYS,
        "replicas": 1,
        "bundles": {"source": "claim", "claim": "models"},
        "state": {"claim": "state"},
    },
    "gpu": {
        **KEYS,
        "gpu": {"count": 1, "runtimeClass": "nvidia"},
        "bundles": PULL,
        "settings": {"MAX_IN_FLIGHT_BYTES": 536870912, "CORS_ORIGINS": "*"},
    },
    "monitored": {**KEYS, "monitoring": MONITORED, "autoscaling": {"enabled": True}},
    "openshift": {
        **KEYS,
        "runAsUser": None,
        "image": {"digest": DIGEST},
        "bundles": {"source": "image", "image": f"registry.example/bundles@{DIGEST}"},
    },
}
SCALING = {"minReplicas", "maxReplicas", "timeout"}  # what KServe's predictor adds to a pod
FOREIGN = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}  # of operators, Kubernetes has no schema


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that the chart gives for some values."""
    with helm.Chart.load(str(manifests.CHART)) as chart:
        files = chart.render(values, name="line", namespace="factory")
    return [one for text in files.values() for one in yaml.safe_load_all(text) if one]


def the(kind: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The only object of a kind."""
    (found,) = [one for one in objects if one["kind"] == kind]
    return found


def pod_of(values: dict[str, Any]) -> dict[str, Any]:
    """What runs."""
    return the("Deployment", rendered(values))["spec"]["template"]["spec"]


@pytest.fixture(params=VALUES)
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What each set of values gives."""
    return rendered(VALUES[request.param])


def test_kubernetes_takes_it(objects: list[dict[str, Any]]) -> None:
    for one in objects:
        if one["kind"] not in FOREIGN:
            validation.validate(one, KUBERNETES, strict=True)
    assert {one["kind"] for one in objects} >= {"Deployment", "Service", "PodDisruptionBudget"}


def test_it_is_hardened(objects: list[dict[str, Any]]) -> None:
    assert broken_rules(the("Deployment", objects)["spec"]["template"]["spec"]) == []


def test_an_unhardened_pod_breaks_the_rules() -> None:
    container = {"name": "one", "image": "registry:5000/anomoe"}
    assert len(broken_rules({"containers": [container], "hostNetwork": True})) == 12
    assert "one: anomoe:latest is no exact version" in broken_rules(
        {"containers": [{**container, "image": "anomoe:latest"}]}
    )


def test_selectors_find_the_pods(objects: list[dict[str, Any]]) -> None:
    labels = the("Deployment", objects)["spec"]["template"]["metadata"]["labels"].items()
    policies = [one["spec"]["podSelector"] for one in objects if one["kind"] == "NetworkPolicy"]
    selectors = [
        the("Service", objects)["spec"]["selector"],
        the("Deployment", objects)["spec"]["selector"]["matchLabels"],
        the("PodDisruptionBudget", objects)["spec"]["selector"]["matchLabels"],
        *(policy["matchLabels"] for policy in policies),
    ]
    assert all(selector.items() <= labels for selector in selectors)


def test_each_mount_has_its_volume(objects: list[dict[str, Any]]) -> None:
    pod = the("Deployment", objects)["spec"]["template"]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = [mount for one in pod["containers"] for mount in one["volumeMounts"]]
    assert {mount["name"] for mount in mounts} == volumes


def test_a_stop_waits_for_what_was_accepted() -> None:
    pod = pod_of({**KEYS, "drainSeconds": 100})
    environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert environment["ANOMOE_DRAIN_S"] == "100"
    assert pod["terminationGracePeriodSeconds"] > 100 + 5


def test_a_gpu_is_asked_for_and_insisted_on() -> None:
    pod = pod_of(VALUES["gpu"])
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "ANOMOE_DEVICE", "value": "cuda"} in container["env"]
    assert container["image"].endswith("-gpu")
    assert pod["runtimeClassName"] == "nvidia"


def test_large_numbers_and_names_of_digits_stay_what_they_are() -> None:
    pod = pod_of({**VALUES["gpu"], "apiKeys": {"existingSecret": "123"}, "runAsUser": 1_000_680_000})
    environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert environment["ANOMOE_MAX_IN_FLIGHT_BYTES"] == "536870912"
    assert environment["ANOMOE_CORS_ORIGINS"] == "*"
    assert repr(pod["securityContext"]["runAsUser"]) == "1000680000"
    assert pod["volumes"][-1]["secret"]["secretName"] == "123"


@pytest.mark.parametrize(("monitored", "rules"), [(False, 0), (True, 1)])
def test_a_policy_for_nobody_lets_nobody_in(monitored: bool, rules: int) -> None:
    values = {**KEYS, "networkPolicy": {"from": []}, "monitoring": {"serviceMonitor": monitored}}
    ingress = the("NetworkPolicy", rendered(values))["spec"]["ingress"]
    assert len(ingress) == rules
    assert all(rule["from"] for rule in ingress)  # an empty list means everybody


def test_bundles_are_pulled_by_digest() -> None:
    (first,) = pod_of(VALUES["gpu"])["initContainers"]
    place = ["https://models.example/tile", "/bundles/tile"]
    assert first["command"] == ["anomoe-export", "pull", *place, "--digest", DIGEST]


def test_rules_and_dashboards_are_those_of_the_compose_file() -> None:
    objects = rendered(VALUES["monitored"])
    rules = [one["spec"] for one in objects if one["kind"] == "PrometheusRule"]
    files = sorted((ROOT / "docker/prometheus/rules").glob("*.yml"))
    assert rules == [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files] != []
    boards = [text for one in objects if one["kind"] == "ConfigMap" for text in one["data"].values()]
    files = sorted((ROOT / "docker/grafana/dashboards").glob("*.json"))
    assert list(map(json.loads, boards)) == [json.loads(file.read_text(encoding="utf-8")) for file in files]


def test_autoscaling_owns_the_number_of_replicas() -> None:
    objects = rendered(VALUES["monitored"])
    assert "replicas" not in the("Deployment", objects)["spec"]
    target = the("ScaledObject", objects)["spec"]["scaleTargetRef"]["name"]
    assert target == the("Deployment", objects)["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "apiKeys.existingSecret"),
        ({**KEYS, "state": {"claim": "state"}}, "state.claim"),
        ({**KEYS, "bundles": {"source": "claim"}}, "bundles.claim"),
        ({**KEYS, "bundles": {"claim": "models"}}, "bundles.claim"),
        ({**KEYS, "bundles": None}, "missing property 'bundles'"),
        ({**KEYS, "bundles": {**PULL, "pull": [{"name": "tile", "from": "https://a.example"}]}}, "digest"),
        ({**KEYS, "bundles": {"source": "image", "image": "bundles:latest"}}, "image"),
        ({**KEYS, "settings": {"ANOMOE_QUEUE_SIZE": 1}}, "ANOMOE_QUEUE_SIZE"),
        ({**KEYS, "settings": {"PORT": 9000}}, "PORT"),
        ({**KEYS, "podAnnotations": {"build": 5}}, "podAnnotations/build"),
        ({**KEYS, "replica": 3}, "replica"),
        ({**KEYS, "autoscaling": {"enabled": True, "queueShare": "25"}}, "queueShare"),
        ({**KEYS, "autoscaling": {"enabled": True, "minReplicas": 9}}, "minReplicas"),
    ],
)
def test_what_cannot_work_is_refused_by_name(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(helm.HelmError, match=reason):
        rendered(values)


def test_versions_are_that_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    chart = yaml.safe_load((manifests.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == version
    example = (ROOT / "deploy/kserve/inferenceservice.yaml").read_text(encoding="utf-8")
    assert f"image: anomoe:{version}\n" in example


def test_plain_manifests_are_those_of_the_chart() -> None:
    assert manifests.PLAIN.read_text(encoding="utf-8") == manifests.plain_manifests()


def test_the_inference_service_is_hardened_too() -> None:
    service = yaml.safe_load((ROOT / "deploy/kserve/inferenceservice.yaml").read_text(encoding="utf-8"))
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    pod = {name: value for name, value in service["spec"]["predictor"].items() if name not in SCALING}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": pod}
    validation.validate(whole, KUBERNETES, strict=True)
    assert broken_rules(pod) == []
