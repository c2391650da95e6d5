"""A graph of a bundle in its runtime, or a reason that names the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.contract.bundle import Bundle, BundleError
from service.backends.base import GraphError
from service.backends.onnx import OnnxGraph
from service.backends.opening import open_graph
from service.engine import Engine
from tests.tiny_bundle import make_tiny_bundle


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
    with pytest.raises(GraphError, match=r"backbone: .*graphs/backbone\.onnx: image is .*28, 28, 3"):
        Engine(bundle, device="cpu", threads=1)


def test_a_file_of_another_graph_is_refused_by_name(folder: Path) -> None:
    bundle = changed(folder, "graphs", "expert-patch-0", "path", to="graphs/expert-global-0.onnx")
    with pytest.raises(
        GraphError, match=r"expert-global-0\.onnx: has \['image', 'features', 'rows', 'error'\]"
    ):
        open_graph(bundle, "expert-patch-0", "cpu", 1)


def test_a_byte_that_changed_since_reading_is_found_before_the_runtime_sees_it(folder: Path) -> None:
    bundle = Bundle.read(folder)
    (folder / "graphs" / "head.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"head\.onnx"):
        open_graph(bundle, "head", "cpu", 1)


def test_a_file_for_torchscript_goes_to_torch(folder: Path) -> None:
    """By its suffix alone; these bytes are no TorchScript."""
    (folder / "graphs" / "head.pt").write_bytes((folder / "graphs" / "head.onnx").read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    files = manifest["files"] | {"graphs/head.pt": manifest["files"]["graphs/head.onnx"]}
    changed(folder, "files", to=files)
    bundle = changed(folder, "graphs", "head", "path", to="graphs/head.pt")
    with pytest.raises(GraphError, match="head: cannot be loaded"):
        open_graph(bundle, "head", "cpu", 1)


def test_unlisted_files_are_left_alone(folder: Path) -> None:
    (folder / "graphs" / "stray.pt").write_bytes(b"not listed")
    engine = Engine(Bundle.read(folder), device="cpu", threads=1)
    engine.warm_up()
    assert np.array_equal(sorted(engine.categories), ["brick", "slate"])
