"""A graph of a bundle in its runtime, or a reason that names the file."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.contract.bundle import Bundle, BundleError
from service.inference.anomalymoe import Engine
from service.inference.backends.base import GraphError
from service.inference.backends.loading import open_graph
from service.inference.backends.onnx import OnnxGraph
from service.metrics import Metrics
from service.models.loading import load_models
from tests.service.conftest import settings_for
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny")


def changed(folder: Path, *keys: str, to: Any) -> Bundle:
    """The bundle with one value of its manifest changed."""
    path = folder / "manifest.json"
    manifest = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    path.write_text(json.dumps(manifest))
    return Bundle.read(folder)


def test_onnx_files_are_opened_with_their_signature(folder: Path) -> None:
    bundle = Bundle.read(folder)
    graph = open_graph(bundle, "router", "cpu", 1)
    assert isinstance(graph, OnnxGraph)
    router = bundle.manifest.graphs["router"]
    assert graph.signature == router.inputs | router.outputs


def test_a_file_with_another_shape_than_the_manifest_is_refused_by_name(folder: Path) -> None:
    """All graphs agree on a picture of 28 x 30, only the files do not."""
    path = folder / "manifest.json"
    path.write_text(
        path.read_text().replace("28,\n            28,\n            3", "28,\n            30,\n            3")
    )
    bundle = changed(folder, "input", "width", to=30)
    assert bundle.manifest.graphs["backbone"].inputs["image"].shape == ("B", 28, 30, 3)
    with pytest.raises(GraphError, match=r"graphs/backbone\.onnx: backbone: image is .*28, 28, 3"):
        Engine(bundle, device="cpu", threads=1)


def replaced(folder: Path, path: str, data: bytes) -> Bundle:
    """The bundle with another file, of which the manifest tells size and hash."""
    (folder / path).write_bytes(data)
    spec = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return changed(folder, "files", path, to=spec)


def test_a_file_of_another_graph_is_refused_by_name(folder: Path) -> None:
    data = (folder / "graphs" / "expert-global-0.onnx").read_bytes()
    bundle = replaced(folder, "graphs/expert-patch-0.onnx", data)
    with pytest.raises(
        GraphError, match=r"patch-0\.onnx: expert-patch-0: has \['image', 'features', 'rows', 'error'\]"
    ):
        open_graph(bundle, "expert-patch-0", "cpu", 1)


@pytest.mark.parametrize("data", [b"", b"no graph"], ids=["empty", "no graph"])
@pytest.mark.parametrize("path", ["graphs/head.onnx", "graphs/head.pt"])
def test_what_is_no_graph_is_refused_by_name(folder: Path, path: str, data: bytes) -> None:
    """The suffix says which runtime it is for."""
    replaced(folder, path, data)
    bundle = changed(folder, "graphs", "head", "path", to=path)
    with pytest.raises(GraphError, match=rf"{folder / path}: head: cannot be loaded: "):
        open_graph(bundle, "head", "cpu", 1)


@pytest.mark.parametrize("kind", ["anomalymoe", "moeclip"])
def test_no_graph_is_run_before_all_have_been_compared(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last graph is another one than the manifest says."""
    make = make_tiny_bundle if kind == "anomalymoe" else make_tiny_zero_shot_bundle
    folder = make(tmp_path / "bundle")
    first = "backbone" if kind == "anomalymoe" else "vision"
    replaced(folder, "graphs/head.onnx", (folder / "graphs" / f"{first}.onnx").read_bytes())

    def run(*_: object) -> None:
        raise AssertionError("a graph was run")

    monkeypatch.setattr(OnnxGraph, "run_on_device", run)
    with pytest.raises(GraphError, match=r"graphs/head\.onnx: head: has \['image', "):
        load_models(settings_for(folder), Metrics())


def test_a_byte_that_changed_since_reading_is_found_before_the_runtime_sees_it(folder: Path) -> None:
    bundle = Bundle.read(folder)
    (folder / "graphs" / "head.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"head\.onnx"):
        open_graph(bundle, "head", "cpu", 1)


def test_unlisted_files_are_left_alone(folder: Path) -> None:
    (folder / "graphs" / "stray.pt").write_bytes(b"not listed")
    engine = Engine(Bundle.read(folder), device="cpu", threads=1)
    engine.warm_up()
    assert np.array_equal(sorted(engine.categories), ["brick", "slate"])
