import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.contract.bundle import Bundle, BundleError, write_bundle
from export.contract.category import dump_categories
from export.contract.manifest_file import store_verification
from export.contract.provenance import Verification
from tests.tiny_bundle import make_tiny_bundle, tiny_category
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle, tiny_normal_scores

VERIFIED = Verification(
    at=datetime(2026, 1, 1, tzinfo=timezone.utc), tolerance=1e-4, largest={"head": 1e-7}, random=12, real=0
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny")


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_what_was_written_is_read(folder: Path):
    bundle = Bundle.read(folder)
    assert list(bundle.categories) == ["brick", "slate"]
    assert bundle.digest.startswith("sha256:")
    assert bundle.graph_bytes("head") == (folder / "graphs/head.onnx").read_bytes()
    assert set(bundle.manifest.files) == {
        "categories.safetensors",
        *(spec.path for spec in bundle.manifest.graphs.values()),
    }


def test_only_a_bundle_or_an_empty_folder_is_replaced(folder: Path, tmp_path: Path):
    digest = Bundle.read(make_tiny_bundle(folder, top_k=2)).digest
    assert Bundle.read(make_tiny_bundle(folder)).digest != digest
    run = tmp_path / "run"
    run.mkdir()
    make_tiny_bundle(run)
    (run / "manifest.json").unlink()
    for other in (run, run / "graphs" / "head.onnx"):
        with pytest.raises(BundleError, match="is no bundle, it is not replaced"):
            make_tiny_bundle(other)
    assert (run / "graphs" / "head.onnx").is_file()


def test_a_name_is_read_in_one_unicode_form(folder: Path):
    """Bundles made from folders of other file systems may hold it in NFD."""
    path, composed, decomposed = folder / "categories.safetensors", "Geh\u00e4use", "Geha\u0308use"
    data = dump_categories([replace(tiny_category("brick"), name=decomposed), tiny_category("slate")])
    path.write_bytes(data)

    def rename(manifest: dict[str, Any]) -> None:
        manifest["categories"] = [decomposed, "slate"]
        manifest["files"][path.name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    change_manifest(folder, rename)
    bundle = Bundle.read(folder)
    assert bundle.manifest.categories == (composed, "slate")
    assert [one.name for one in bundle.categories.values()] == [composed, "slate"]


def test_digest_changes_with_the_content(folder: Path, tmp_path: Path):
    other = make_tiny_bundle(tmp_path / "other", top_k=2)
    assert Bundle.read(folder).digest != Bundle.read(other).digest
    assert Bundle.read(folder).digest == Bundle.read(make_tiny_bundle(tmp_path / "again")).digest


def test_digest_is_that_of_the_content_alone(folder: Path):
    """Neither when it was made nor what was verified, nor the order of fields; anything else is."""
    digest = Bundle.read(folder).digest
    change_manifest(folder, lambda manifest: manifest.update(created="2026-02-03T04:05:06Z"))
    assert Bundle.read(folder).digest == digest
    change_manifest(folder, lambda manifest: manifest.update(source={"weights": "others"}))
    assert Bundle.read(folder).digest != digest


def test_a_verification_is_stored_beside_the_same_digest(folder: Path):
    before = Bundle.read(folder)
    store_verification(folder, VERIFIED)
    after = Bundle.read(folder)
    assert after.manifest == before.manifest.model_copy(update={"verified": VERIFIED})
    assert after.digest == before.digest
    assert not [path for path in folder.iterdir() if path.name.endswith(".part")]


def test_changed_byte_is_found(folder: Path):
    path = folder / "graphs/router.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"router\.onnx: sha256"):
        Bundle.read(folder)


def test_byte_changed_after_reading_is_found(folder: Path):
    bundle = Bundle.read(folder)
    path = folder / "graphs/router.onnx"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(BundleError, match=r"router\.onnx: sha256"):
        bundle.graph_bytes("router")


def test_truncated_and_missing_files_are_found(folder: Path):
    path = folder / "graphs/router.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"router\.onnx: has \d+ bytes"):
        Bundle.read(folder)
    path.unlink()
    with pytest.raises(BundleError, match=r"router\.onnx: No such file"):
        Bundle.read(folder)


def test_folder_without_manifest(tmp_path: Path):
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Bundle.read(tmp_path)


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


def test_manifest_elsewhere_is_refused(folder: Path):
    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest.json")
    with pytest.raises(BundleError, match=r"manifest\.json: is a link that leaves"):
        Bundle.read(folder)


def test_what_is_no_file_is_never_opened(folder: Path):
    """Reading a pipe would wait for a writer."""
    head = folder / "graphs/head.onnx"
    head.unlink()
    os.mkfifo(head)
    change_manifest(folder, lambda manifest: manifest["files"]["graphs/head.onnx"].update(bytes=0))
    with pytest.raises(BundleError, match=r"head\.onnx: is no file"):
        Bundle.read(folder)


def test_a_pipe_is_no_manifest(folder: Path):
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(BundleError, match=r"manifest\.json: is no file"):
        Bundle.read(folder)


def test_links_in_a_circle_are_refused(folder: Path):
    head = folder / "graphs/head.onnx"
    head.unlink()
    head.symlink_to(head.name)
    with pytest.raises(BundleError, match=r"graphs/head\.onnx"):
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


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "graphs/../../secret", "graphs\\secret"])
def test_path_that_leaves_the_bundle_is_refused(folder: Path, path: str):
    (folder.parent / "secret").write_bytes(b"")
    change_manifest(
        folder, lambda manifest: manifest["files"].update({path: {"sha256": "0" * 64, "bytes": 0}})
    )
    with pytest.raises(BundleError, match="leaves the bundle"):
        Bundle.read(folder)


def test_path_that_no_file_can_have_is_refused(folder: Path):
    change_manifest(
        folder, lambda manifest: manifest["files"].update({"a\0b": {"sha256": "0" * 64, "bytes": 0}})
    )
    with pytest.raises(BundleError, match="leads nowhere"):
        Bundle.read(folder)


def test_link_that_leaves_the_bundle_is_refused(folder: Path):
    head = folder / "graphs/head.onnx"
    head.rename(folder.parent / "head.onnx")
    head.symlink_to(folder.parent / "head.onnx")
    with pytest.raises(BundleError, match="link that leaves"):
        Bundle.read(folder)


def test_failed_write_leaves_the_old_bundle(folder: Path):
    before = Bundle.read(folder)
    with pytest.raises(BundleError, match="not listed"):
        write_bundle(folder, before.manifest, {}, [tiny_category("brick"), tiny_category("slate")])
    assert Bundle.read(folder).digest == before.digest
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_rewrite_replaces_the_old_bundle(folder: Path):
    (folder / "stray").write_text("from an older version")
    make_tiny_bundle(folder, version="2")
    assert Bundle.read(folder).manifest.version == "2"
    assert not (folder / "stray").exists()


def test_unlisted_file_is_not_given_out(folder: Path):
    (folder / "stray").write_bytes(b"")
    with pytest.raises(BundleError, match="stray: not listed"):
        Bundle.read(folder).file_bytes("stray")


def test_unreadable_categories_are_named(folder: Path):
    path = folder / "categories.safetensors"
    path.write_bytes(b"no tensors")
    spec = {"sha256": hashlib.sha256(b"no tensors").hexdigest(), "bytes": 10}
    change_manifest(folder, lambda manifest: manifest["files"].update({path.name: spec}))
    with pytest.raises(BundleError, match=r"categories\.safetensors: "):
        Bundle.read(folder)


def test_old_bundle_is_put_back_when_the_new_one_cannot_be_moved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    before, rename = Bundle.read(folder), Path.rename

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if self.name == "fresh":
            raise OSError("disk trouble")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(OSError, match="disk trouble"):
        make_tiny_bundle(folder, version="2")
    assert Bundle.read(folder).digest == before.digest


@pytest.fixture
def zero_shot(tmp_path: Path) -> Path:
    return make_tiny_zero_shot_bundle(tmp_path / "clip", calibrated=("slate",))


def test_zero_shot_bundle_without_class_scores(tmp_path: Path):
    bundle = Bundle.read(make_tiny_zero_shot_bundle(tmp_path / "clip"))
    assert (bundle.categories, bundle.class_scores, bundle.manifest.experts) == ({}, {}, ())
    assert bundle.manifest.zero_shot is not None
    assert bundle.manifest.zero_shot.threshold == 0.5
    tokenizer = Tokenizer.from_str(bundle.file_bytes("tokenizer.json").decode())
    assert tokenizer.encode("A damaged brick").ids == [7, 1, 5, 2, 8, *[0] * 7]


def test_zero_shot_bundle_with_class_scores(zero_shot: Path):
    bundle = Bundle.read(zero_shot)
    assert (bundle.categories, list(bundle.class_scores)) == ({}, ["slate"])
    np.testing.assert_array_equal(bundle.class_scores["slate"].peaks, tiny_normal_scores("slate").peaks)


def test_class_names_of_older_bundles_are_found_by_their_canonical_form(tmp_path: Path):
    names = ("Metal_disc", "X-ray", "metal disc")
    bundle = Bundle.read(make_tiny_zero_shot_bundle(tmp_path / "clip", calibrated=names))
    assert list(bundle.class_scores) == ["metal disc", "x ray"]
    assert bundle.class_scores["x ray"].name == "X-ray"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(zero_shot=None), "zero_shot: belongs to kind 'moeclip'"),
        (lambda manifest: manifest["zero_shot"].update(normal=["whole"]), "'whole' has not exactly one {}"),
        (lambda manifest: manifest["zero_shot"].update(abnormal=[]), "zero_shot.abnormal"),
        (lambda manifest: manifest["zero_shot"].update(context_length=77), "context_length: 77, but"),
        (lambda manifest: manifest["files"].pop("tokenizer.json"), "tokenizer.json: not listed"),
        (lambda manifest: manifest.update(categories=["brick"]), r"holds \['slate'\], not \['brick'\]"),
    ],
)
def test_inconsistent_zero_shot_manifest_is_refused(
    zero_shot: Path, change: Callable[[dict[str, Any]], object], message: str
):
    change_manifest(zero_shot, change)
    with pytest.raises(BundleError, match=message):
        Bundle.read(zero_shot)


def test_changed_tokenizer_is_found(zero_shot: Path):
    (zero_shot / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json: has 2 bytes"):
        Bundle.read(zero_shot)


def test_prompts_belong_to_a_zero_shot_bundle(folder: Path):
    prompts = {"context_length": 12, "normal": ["{}"], "abnormal": ["damaged {}"]}
    change_manifest(folder, lambda manifest: manifest.update(zero_shot=prompts))
    with pytest.raises(BundleError, match="zero_shot: belongs to kind 'moeclip'"):
        Bundle.read(folder)
