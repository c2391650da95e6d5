"""Prometheus metrics of one service, in a registry of its own."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Literal, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from service.errors import REJECTIONS, Kind, Problem

PREFIX = "anomoe"
UNKNOWN = "unknown"
UNMATCHED = "unmatched"  # the endpoint of what asks for none there is
ZERO_SHOT = "zero-shot"
STAGES = ("decode", "backbone", "experts", "vision", "head", "encode")  # that each picture is timed in
DEADLINE_STAGES = ("admission", "body", "queue", "text", "decode", "engine", "encode")
STATUSES = sorted({200, 499, *(kind.status for kind in Kind)})
RELOADS = ("done", "refused")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SCORES = tuple(step / 20 for step in range(1, 21))
DISTANCES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)

disable_created_metrics()  # a series for each series, and nobody asks for them


class _Product(NamedTuple):
    """The children of one category, made once: to find them by their labels costs more than to count."""

    images: Counter
    anomalies: Counter
    score: Histogram
    distance: Histogram
    not_this_product: Counter


class Metrics:
    """Every metric the service keeps; names and labels are fixed, dashboards rely on them.

    labels: those of each series, by its name.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.labels: dict[str, tuple[str, ...]] = {}
        self._define_requests()
        self._define_verdicts()
        self._define_models()
        self._stages = {stage: self.stage_seconds.labels(stage) for stage in (*STAGES, "text")}
        self._rejected = {kind: self.rejected.labels(kind.slug) for kind in REJECTIONS}
        self._products: dict[str, _Product] = {}
        self._experts: dict[tuple[str, int], Counter] = {}
        for stage in DEADLINE_STAGES:
            self.deadline_missed.labels(stage)
        for result in RELOADS:
            self.reloads.labels(result)
            self.last_reload.labels(result)
        self.build_info.labels(version("anomoe")).set(1)
        self.expect((UNKNOWN, ZERO_SHOT))
        self.expect_endpoints((UNMATCHED,))

    def _define_requests(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.requests = counter("requests_total", "Answered requests", "endpoint", "status")
        self.request_seconds = histogram("request_seconds", "Whole request", SECONDS, "endpoint")
        self.stage_seconds = histogram("stage_seconds", "One stage of one picture", SECONDS, "stage")
        self.queue_seconds = histogram(
            "queue_seconds", "Wait for the body, a turn, threads and the device", SECONDS
        )
        self.queue_depth = gauge("queue_depth", "Pictures and new class names that wait")
        self.queue_capacity = gauge("queue_capacity", "Most requests admitted at once")
        self.admitted = gauge("admitted", "Requests that hold a permit, of queue_capacity")
        self.in_flight = gauge("in_flight", "Requests being answered")
        self.batch_size = histogram("batch_size", "Pictures computed together", BATCHES)
        self.rejected = counter("rejected_total", "Requests and pictures refused", "reason")
        late = "Deadlines that passed, by the stage that did not begin"
        self.deadline_missed = counter("deadline_missed_total", late, "stage")
        self.abandoned = counter("abandoned_total", "Pictures given up by their callers before their turn")
        self.stage_failures = counter("stage_failures_total", "Stages that died or hung", "stage")
        self.ready = gauge("ready", "1 when pictures can be answered")

    def _define_verdicts(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.images = counter("images_total", "Pictures answered", "category")
        self.anomalies = counter("anomalies_total", "Pictures called anomalous", "category")
        self.score = histogram("score", "Display scores, 0.5 is the threshold", SCORES, "category")
        far = "Distance to the product, 1 at its radius"
        self.distance = histogram("distance", far, DISTANCES, "category")
        too_far = "Pictures too far from the named product"
        self.not_this_product = counter("not_this_product_total", too_far, "category")
        self.calibration_size = gauge("calibration_size", "Normal pictures behind the threshold", "category")
        self.alpha = gauge("alpha", "Promised false-positive rate", "category")
        self.drift_statistic = gauge("drift_statistic", "Evidence of drift; the alarm is at 1", "category")
        self.drift_alarm = gauge("drift_alarm", "1 from a drift alarm until its reset", "category")

    def _define_models(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.expert_selected = counter("expert_selected_total", "Pictures per expert", "level", "expert")
        self.model_info = gauge("model_info", "1 per served model", "name", "version", "kind", "digest")
        computes = "1 per device asked for and what computes instead"
        self.device_info = gauge("device_info", computes, "device", "provider")
        unused = "1 when the CPU computes unasked, though the machine or the runtime is one for GPUs"
        self.gpu_missing = gauge("gpu_missing", unused)
        self.build_info = gauge("build_info", "1 for the version of the service", "version")
        self.reloads = counter("reloads_total", "Reloads of the bundles", "result")
        latest = "Latest reload, or start, by result; 0 is none"
        self.last_reload = gauge("last_reload_timestamp_seconds", latest, "result")
        known = "Class names by whether their text was known"
        self.text_cache = counter("text_cache_total", known, "result")
        self.text_cache_size = gauge("text_cache_size", "Class names whose text is kept")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.labels[f"{PREFIX}_{name}"] = labels
        return Counter(name, text, labels, namespace=PREFIX, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.labels[f"{PREFIX}_{name}"] = labels
        return Gauge(name, text, labels, namespace=PREFIX, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        for suffix, more in (("bucket", ("le",)), ("count", ()), ("sum", ())):
            self.labels[f"{PREFIX}_{name}_{suffix}"] = (*labels, *more)
        return Histogram(name, text, labels, namespace=PREFIX, buckets=buckets, registry=self.registry)

    def expect(self, categories: Iterable[str], experts: Iterable[tuple[str, int]] = ()) -> None:
        """Make what is counted by category, and by level and index of an expert, before its first event."""
        for one in categories:
            self._products[one] = _Product(
                self.images.labels(one),
                self.anomalies.labels(one),
                self.score.labels(one),
                self.distance.labels(one),
                self.not_this_product.labels(one),
            )
        for level, index in experts:
            self._experts[level, index] = self.expert_selected.labels(level, str(index))

    def expect_endpoints(self, paths: Iterable[str]) -> None:
        """Make what is counted by endpoint and status before its first event."""
        for path in paths:
            self.request_seconds.labels(path)
            for status in STATUSES:
                self.requests.labels(path, str(status))

    def render(self) -> bytes:
        """The metrics as Prometheus text."""
        return generate_latest(self.registry)

    def count_problem(self, problem: Problem) -> None:
        """Count a refusal that protects the service."""
        if problem.kind in REJECTIONS:
            self._rejected[problem.kind].inc()
        if problem.kind is Kind.DEADLINE:
            self.deadline_missed.labels(problem.stage).inc()

    def count_reload(self, result: Literal["done", "refused"]) -> None:
        """Count a reload, and keep its time."""
        self.reloads.labels(result).inc()
        self.last_reload.labels(result).set_to_current_time()

    def count_picture(
        self,
        category: str | None,
        is_anomalous: bool,
        score: float | None,
        experts: Iterable[tuple[str, int]],
        timings_ms: Mapping[str, float],
    ) -> None:
        """Count one answered picture, its score, its experts (level, index) and its stages."""
        for expert in experts:
            self._experts[expert].inc()
        self._count(category or UNKNOWN, is_anomalous, score, timings_ms)

    def count_distance(self, category: str | None, distance: float, is_this_product: bool) -> None:
        """Count how far one picture is from its product, 1 at the radius."""
        product = self._products[category or UNKNOWN]
        product.distance.observe(distance)
        if not is_this_product:
            product.not_this_product.inc()

    def count_zero_shot(self, is_anomalous: bool, score: float, timings_ms: Mapping[str, float]) -> None:
        """Count one zero-shot picture by its best class name; names are the callers', so no labels."""
        self._count(ZERO_SHOT, is_anomalous, score, timings_ms)

    def _count(
        self, category: str, is_anomalous: bool, score: float | None, timings_ms: Mapping[str, float]
    ) -> None:
        product = self._products[category]
        product.images.inc()
        if is_anomalous:
            product.anomalies.inc()
        if score is not None:
            product.score.observe(score)
        for stage, ms in timings_ms.items():
            if stage == "queue":
                self.queue_seconds.observe(ms / 1000)
            elif stage not in ("total", "text"):  # texts count where they are made, not where they are known
                self._stages[stage].observe(ms / 1000)
