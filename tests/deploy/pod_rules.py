"""What a pod has to keep so that nobody has to harden it."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

Spec = Mapping[str, Any]


def broken_rules(pod: Spec) -> list[str]:
    """What is wrong with a pod, a sentence each."""
    return [*_of_pod(pod), *(wrong for container in _containers(pod) for wrong in _of_container(container))]


def _containers(pod: Spec) -> list[Spec]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _of_pod(pod: Spec) -> Iterator[str]:
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not set"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "seccompProfile is not the runtime's"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the account's token is mounted"
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "a namespace of the host is used"
    if any("hostPath" in volume for volume in pod.get("volumes", ())):
        yield "a folder of the host is mounted"
    probes = product(pod["containers"], ("startupProbe", "readinessProbe", "livenessProbe"))
    yield from (f"{one['name']}: no {probe}" for one, probe in probes if probe not in one)


def _of_container(container: Spec) -> Iterator[str]:
    name, security = container["name"], container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: privileges may grow"
    if security.get("readOnlyRootFilesystem") is not True:
        yield f"{name}: the root can be written"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name}: capabilities are kept"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("limits", ())):
        yield f"{name}: cpu or memory is unlimited"
    if resources.get("requests") != resources.get("limits"):
        yield f"{name}: requests are not the limits"
    tag = container["image"].rpartition("/")[2].partition(":")[2]
    if tag in {"", "latest"}:
        yield f"{name}: {container['image']} is no exact version"
