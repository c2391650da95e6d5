"""A bundle is read as it was written, replaced as a whole, and named by its content."""

import hashlib
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from export.contract.bundle import Bundle, BundleError, write_bundle
from export.contract.category import dump_categories
from export.contract.manifest_file import store_verification
from export.contract.provenance import Verification
from tests.export.contract.bundle.manifests import change_manifest
from tests.tiny_bundle import make_tiny_bundle, tiny_category

VERIFIED = Verification(
    at=datetime(2026, 1, 1, tzinfo=timezone.utc), tolerance=1e-4, largest={"head": 1e-7}, random=12, real=0
)


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
