"""What the dashboards show; `generate.py` beside it writes them as Grafana's JSON."""

from typing import Literal, NamedTuple

SOURCE = 'job=~"$job",instance=~"$instance"'
PRODUCT = f'{SOURCE},category=~"$product"'
SINGLE = f'{SOURCE},endpoint=~"/detect|/zero-shot"'
WORK = f'{SOURCE},endpoint=~"/detect|/detect/batch|/zero-shot"'


class Panel(NamedTuple):
    """One panel: a tile with a number (red from `limit` on), or lines over time.

    queries: an expression and the legend of its lines each.
    """

    title: str
    description: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    limit: float | None = None


def tile(title: str, description: str, unit: str, expression: str, limit: float, legend: str = "") -> Panel:
    """A number that is red from `limit` on."""
    return Panel(title, description, unit, ((expression, legend or "{{instance}}"),), "stat", limit)


def per_second(name: str, labels: str = SOURCE) -> str:
    """How fast a counter grows."""
    return f"rate(anomoe_{name}{{{labels}}}[$__rate_interval])"


def quantile(q: float, name: str, by: str = "", labels: str = SOURCE) -> str:
    """A quantile of a histogram, nothing without traffic."""
    buckets, count = per_second(f"{name}_bucket", labels), per_second(f"{name}_count", labels)
    some = f"sum by ({by}) ({count}) > 0" if by else f"sum ({count}) > 0"
    return f"histogram_quantile({q}, sum by ({f'le, {by}' if by else 'le'}) ({buckets})) and {some}"


def mean(name: str, by: str = "") -> str:
    """The mean of a histogram, nothing without traffic."""
    total, count = per_second(f"{name}_sum"), per_second(f"{name}_count")
    return f"sum by ({by}) ({total}) / (sum by ({by}) ({count}) > 0)"


PROMISES = (
    tile(
        "Rejects / most that alpha explains",
        "Rejected pictures of the last hour over the most that the promise explains; the alarm is at 1.",
        "percentunit",
        f"category:anomoe_rejects:increase1h{{{PRODUCT}}} / category:anomoe_rejects:most1h{{{PRODUCT}}}",
        1,
        "{{category}}",
    ),
    tile(
        "p99 of pictures",
        "99 % of requests with one picture were answered within this time in 5 min; the objective is 1 s.",
        "s",
        f"max by (instance) (endpoint:anomoe_request_seconds:p99_5m{{{SINGLE}}})",
        1,
    ),
    tile(
        "Failed work",
        "Share of the last hour's work that the service failed (5xx); the objective is 0.1 %.",
        "percentunit",
        f"instance:anomoe_errors:ratio_rate1h{{{SOURCE}}}",
        0.001,
    ),
    tile(
        "Drift",
        "Evidence that the pictures have changed; the alarm is at 1 and lasts until POST /drift/reset.",
        "percentunit",
        f"anomoe_drift_statistic{{{PRODUCT}}}",
        1,
        "{{category}}",
    ),
)

DASHBOARDS: dict[str, tuple[Panel, ...]] = {
    "service": (
        *PROMISES,
        Panel(
            "Requests",
            "Answered requests a second, by path and status.",
            "reqps",
            (
                (
                    f"sum by (endpoint, status) ({per_second('requests_total', WORK)}) > 0",
                    "{{endpoint}} {{status}}",
                ),
            ),
        ),
        Panel(
            "Duration",
            "Whole requests.",
            "s",
            tuple((quantile(q, "request_seconds", labels=WORK), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
        ),
        Panel(
            "Stages",
            "Mean time of one picture in each stage, and all its waiting.",
            "s",
            (
                (mean("stage_seconds", "stage"), "{{stage}}"),
                (mean("queue_seconds"), "queue"),
            ),
        ),
        Panel(
            "Requests held",
            "Requests with a permit, the most there may be, pictures that wait, requests in flight.",
            "short",
            (
                (f"anomoe_admitted{{{SOURCE}}}", "admitted {{instance}}"),
                (f"anomoe_queue_capacity{{{SOURCE}}}", "capacity {{instance}}"),
                (f"anomoe_queue_depth{{{SOURCE}}}", "waiting {{instance}}"),
                (f"anomoe_in_flight{{{SOURCE}}}", "in flight {{instance}}"),
            ),
        ),
        Panel(
            "Refused and late",
            "Refusals by reason, deadlines missed by the stage that did not begin, callers who hung up.",
            "reqps",
            (
                (f"sum by (reason) ({per_second('rejected_total')})", "refused: {{reason}}"),
                (f"sum by (stage) ({per_second('deadline_missed_total')})", "late: {{stage}}"),
                (f"sum({per_second('abandoned_total')})", "hung up"),
            ),
        ),
        Panel(
            "Failures and reloads",
            "Stages that died or hung, and reloads by result, in the last hour.",
            "short",
            (
                (f"increase(anomoe_stage_failures_total{{{SOURCE}}}[1h])", "failed: {{stage}}"),
                (f"increase(anomoe_reloads_total{{{SOURCE}}}[1h])", "reload {{result}}"),
            ),
        ),
    ),
    "model": (
        Panel(
            "Models",
            "Bundles in service.",
            "none",
            ((f"anomoe_model_info{{{SOURCE}}}", "{{name}} {{version}} ({{kind}}) {{digest}}"),),
        ),
        Panel(
            "Last reload",
            "Seconds since the bundles were read, or a new one was refused.",
            "s",
            (
                (
                    f"time() - (anomoe_last_reload_timestamp_seconds{{{SOURCE}}} > 0)",
                    "{{result}} {{instance}}",
                ),
            ),
        ),
        Panel(
            "Experts chosen",
            "Pictures a second that chose each expert; one that falls silent has lost its pictures.",
            "ops",
            (
                (
                    f"sum by (level, expert) ({per_second('expert_selected_total')})",
                    "{{level}} {{expert}}",
                ),
            ),
        ),
        Panel(
            "Batch",
            "Pictures computed together.",
            "short",
            (
                (quantile(0.5, "batch_size"), "median"),
                (quantile(0.95, "batch_size"), "p95"),
            ),
        ),
        Panel(
            "Stages, p95",
            "95 % of pictures pass a stage within this time.",
            "s",
            ((quantile(0.95, "stage_seconds", "stage"), "{{stage}}"),),
        ),
        Panel(
            "Class names",
            "Texts of class names that were known or had to be computed, and how many are kept.",
            "short",
            (
                (f"sum by (result) ({per_second('text_cache_total')})", "{{result}} a second"),
                (f"anomoe_text_cache_size{{{SOURCE}}}", "kept {{instance}}"),
            ),
        ),
    ),
    "quality": (
        *PROMISES,
        Panel(
            "Rejects",
            "Share of rejected pictures in the last hour, and the promised false-positive rate.",
            "percentunit",
            (
                (f"category:anomoe_rejects:ratio1h{{{PRODUCT}}}", "rejected {{category}}"),
                (f"anomoe_alpha{{{PRODUCT}}}", "alpha {{category}}"),
                (f"category:anomoe_alpha:most{{{PRODUCT}}}", "alpha, as far as calibrated, {{category}}"),
            ),
        ),
        Panel(
            "Pictures",
            "Pictures a second by product; unknown is what is no product.",
            "ops",
            ((f"sum by (category) ({per_second('images_total', PRODUCT)})", "{{category}}"),),
        ),
        Panel(
            "Score",
            "Median and 95 % quantile of the display score; 0.5 is the threshold.",
            "none",
            tuple(
                (quantile(q, "score", "category", PRODUCT), f"p{q * 100:g} {{{{category}}}}")
                for q in (0.5, 0.95)
            ),
        ),
        Panel(
            "Distance to the product",
            "Median and 95 % quantile; no calibration picture is as far as 1.",
            "none",
            tuple(
                (quantile(q, "distance", "category", PRODUCT), f"p{q * 100:g} {{{{category}}}}")
                for q in (0.5, 0.95)
            ),
        ),
        Panel(
            "Not the product",
            "Share of pictures in 10 min that are of no product, or not of the one named.",
            "percentunit",
            (
                (f"instance:anomoe_unknown:ratio10m{{{SOURCE}}}", "unknown {{instance}}"),
                (f"category:anomoe_not_this_product:ratio10m{{{PRODUCT}}}", "not {{category}}"),
            ),
        ),
        Panel(
            "Drift",
            "Evidence of drift (the alarm is at 1), and alarms that nobody has reset.",
            "none",
            (
                (f"anomoe_drift_statistic{{{PRODUCT}}}", "evidence {{category}}"),
                (f"anomoe_drift_alarm{{{PRODUCT}}}", "alarm {{category}}"),
            ),
        ),
        Panel(
            "Calibration pictures",
            "Normal pictures behind each threshold.",
            "short",
            ((f"anomoe_calibration_size{{{PRODUCT}}}", "{{category}}"),),
        ),
    ),
    "machine": (
        tile("Not ready", "1: pictures are not answered.", "none", f"1 - anomoe_ready{{{SOURCE}}}", 1),
        tile("Not scraped", "1: Prometheus cannot reach it.", "none", f"1 - up{{{SOURCE}}}", 1),
        Panel(
            "CPU",
            "Cores that the process uses.",
            "none",
            ((f"rate(process_cpu_seconds_total{{{SOURCE}}}[$__rate_interval])", "{{instance}}"),),
        ),
        Panel(
            "Memory",
            "Of the process, as the system counts it.",
            "bytes",
            ((f"process_resident_memory_bytes{{{SOURCE}}}", "{{instance}}"),),
        ),
        Panel(
            "Files and connections",
            "Open, and the most there may be.",
            "short",
            (
                (f"process_open_fds{{{SOURCE}}}", "open {{instance}}"),
                (f"process_max_fds{{{SOURCE}}}", "limit {{instance}}"),
            ),
        ),
        Panel(
            "Up for",
            "Since the process started.",
            "s",
            ((f"time() - process_start_time_seconds{{{SOURCE}}}", "{{instance}}"),),
        ),
        Panel(
            "Device",
            "What was asked for, what computes, and whether a GPU is missed.",
            "none",
            (
                (f"anomoe_device_info{{{SOURCE}}}", "{{device}}: {{provider}}"),
                (f"anomoe_gpu_missing{{{SOURCE}}}", "GPU missed {{instance}}"),
            ),
        ),
        Panel(
            "Versions",
            "Of the service.",
            "none",
            ((f"anomoe_build_info{{{SOURCE}}}", "{{version}} {{instance}}"),),
        ),
    ),
}
