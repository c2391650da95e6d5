"""Manifests that are no JSON or do not agree with the bundle are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.contract.bundle import Bundle, BundleError
from tests.export.contract.bundle.manifests import change_manifest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"schema_version": 1, "schema_version": 2}', "schema_version: occurs twice"),
    ],
)
def test_manifest_that_is_not_json(folder: Path, text: str, message: str):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=rf"manifest\.json: {message}"):
        Bundle.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: manifest.update(schema_version=2),
            r"manifest\.json: made by a newer version: schema_version is 2, this one reads up to 1",
        ),
        (lambda manifest: manifest.update(schema_version=0), "schema_version"),
        (lambda manifest: manifest.update(surprise=1), "surprise"),
        (lambda manifest: manifest["graphs"].pop("head"), "missing head"),
        (lambda manifest: manifest["graphs"].pop("expert-patch-1"), "missing expert-patch-1"),
        (lambda manifest: manifest["experts"][0].update(column=1), "columns repeat"),
        (lambda manifest: manifest["experts"][5].update(column=6), "calibrates 6 experts, not 7"),
        (lambda manifest: manifest["files"].pop("graphs/head.onnx"), r"head\.onnx: not listed"),
        (lambda manifest: manifest["files"].pop("categories.safetensors"), "categories.*not listed"),
        (lambda manifest: manifest.update(categories=["brick"]), r"holds \['brick', 'slate'\]"),
        (lambda manifest: manifest.update(categories=["brick", "brick"]), "names repeat"),
        (lambda manifest: manifest.update(experts=[]), "at least one"),
        (
            lambda manifest: manifest["graphs"]["head"].update(external=["graphs/router.onnx"]),
            r"graphs/router\.onnx is the file of two graphs",
        ),
        (
            lambda manifest: manifest["graphs"]["backbone"]["outputs"]["cls"].update(shape=["B", 9]),
            r"graphs/router\.onnx: cls has shape .*, where 8 must be 9",
        ),
        (
            lambda manifest: [
                manifest["graphs"][f"expert-component-{index}"]["inputs"]["centres"].update(
                    shape=["b", "M", 9]
                )
                for index in (0, 1)
            ],
            "category 'brick' has centres of width 8, not 9",
        ),
        (
            lambda manifest: manifest["graphs"]["head"]["outputs"]["map"].update(shape=["B", 28, 27]),
            r"graphs/head\.onnx: map has shape .*, where 27 must be 28",
        ),
        (
            lambda manifest: manifest["graphs"]["expert-patch-1"]["inputs"]["rows"].update(shape=[2]),
            r"graphs/expert-patch-1\.onnx: rows has shape \(2,\), where 2 must be dynamic",
        ),
        (
            lambda manifest: manifest["graphs"]["backbone"]["inputs"]["image"].update(dtype="float32"),
            r"graphs/backbone\.onnx: image is float32, not uint8",
        ),
        (
            lambda manifest: manifest["graphs"]["expert-global-0"]["inputs"].pop("features"),
            r"graphs/expert-global-0\.onnx: has \['image', 'rows'\]",
        ),
        (
            lambda manifest: manifest["graphs"]["router"]["outputs"]["gates"].update(shape=["B"]),
            r"graphs/router\.onnx: gates has shape .*, not 2 axes",
        ),
    ],
)
def test_inconsistent_manifest_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
):
    change_manifest(folder, change)
    with pytest.raises(BundleError, match=message):
        Bundle.read(folder)
