"""Files of a bundle that were changed, are missing, lead elsewhere or are no files."""

import hashlib
import os
from pathlib import Path

import pytest

from export.contract.bundle import Bundle, BundleError
from tests.export.contract.bundle.manifests import change_manifest


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
