"""What is in a bundle, as tables."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table

from export.contract.bundle import Bundle
from export.contract.manifest import GraphSpec, Manifest


def describe(bundle: Bundle) -> RenderableType:
    """Everything the manifest tells, for people."""
    manifest = bundle.manifest
    blocks: list[RenderableType] = [*_lines(bundle), _graphs(manifest)]
    if manifest.experts:
        blocks.append(_experts(manifest))
    if bundle.categories:
        blocks.append(_categories(bundle))
    return Group(*blocks)


def _lines(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    megabytes = sum(file.bytes for file in manifest.files.values()) / 1e6
    made = f"{manifest.created:%Y-%m-%d %H:%M}"
    yield f"{manifest.name} version {manifest.version}, {manifest.kind}, made {made}"
    yield bundle.digest
    yield f"{manifest.format}, {manifest.precision}, {megabytes:.1f} MB"
    absent = manifest.left_out
    if absent.experts:
        yield "left out: " + ", ".join(f"{one.level} expert {one.index}" for one in absent.experts)
    if absent.categories:
        yield f"left out: categories {', '.join(absent.categories)}"
    yield _verified(manifest)


def _verified(manifest: Manifest) -> str:
    verified = manifest.verified
    if verified is None:
        return "not verified"
    subject, largest = max(verified.largest.items(), key=lambda item: item[1])
    limit = "by AUROC" if verified.tolerance is None else f"within {verified.tolerance:g}"
    pictures = f"{verified.random} random and {verified.real} real pictures"
    drops = [100 * (torch - bundle) for torch, bundle in verified.auroc.values()]
    accuracy = f", AUROC drops by at most {max(drops):.2f} points" if drops else ""
    return (
        f"verified {limit} on {verified.at:%Y-%m-%d %H:%M} with {pictures}: "
        f"largest difference {largest:.1e} ({subject}){accuracy}"
    )


def _graphs(manifest: Manifest) -> Table:
    table = Table()
    for column in ("graph", "inputs", "outputs", "opset", "MMACs", "kB"):
        table.add_column(column, overflow="fold", no_wrap=column in ("graph", "opset", "MMACs", "kB"))
    for key, graph in manifest.graphs.items():
        table.add_row(
            key,
            ", ".join(graph.inputs),
            ", ".join(graph.outputs),
            "-" if graph.opset is None else str(graph.opset),
            "-" if graph.macs is None else f"{graph.macs / 1e6:.1f}",
            f"{_bytes(manifest, graph) / 1000:.0f}",
        )
    return table


def _bytes(manifest: Manifest, graph: GraphSpec) -> int:
    return sum(manifest.files[path].bytes for path in (graph.path, *graph.external))


def _experts(manifest: Manifest) -> Table:
    """How many calibration pictures chose each expert, also of those that were left out."""
    names = manifest.categories
    table = Table("expert", *names, "all", caption="calibration pictures that chose it")
    rows = [(one, "") for one in manifest.experts]
    rows += [(one, " (left out)") for one in manifest.left_out.experts]
    for expert, note in sorted(rows, key=lambda row: row[0].column):
        counts = [expert.chosen_by.get(name) for name in names]
        known = [count for count in counts if count is not None]
        cells = ["-" if count is None else str(count) for count in counts]
        table.add_row(f"{expert.level} {expert.index}{note}", *cells, str(sum(known)) if known else "-")
    return table


def _categories(bundle: Bundle) -> Table:
    table = Table("category", "components", "calibration pictures", "false positives promised")
    for category in bundle.categories.values():
        count = len(category.scores)
        table.add_row(category.name, str(len(category.centres)), str(count), f">= {1 / (count + 1):.2%}")
    return table
