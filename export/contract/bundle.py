"""A bundle on disk: written at once or not at all, and checked whole before anything of it is used."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError

from export.contract.category import Category, dump_categories, parse_categories
from export.contract.manifest import SCHEMA_VERSION, FileSpec, Manifest
from export.contract.provenance import Verification
from export.contract.signature import check_signatures

MANIFEST = "manifest.json"
CATEGORIES = "categories.safetensors"
_NOT_IN_DIGEST = ("created", "verified")


class BundleError(ValueError):
    """A bundle that must not be served; the message names the file."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose every file had the size and SHA-256 of its manifest when it was read.

    digest: see `manifest_digest`.
    """

    folder: Path
    manifest: Manifest
    digest: str
    categories: dict[str, Category]

    @classmethod
    def read(cls, folder: Path) -> "Bundle":
        """Check manifest, paths, sizes and hashes of all files, then the categories.

        Files that the manifest does not list are never read.

        Raises BundleError naming the file at fault.
        """
        data = _read(folder / MANIFEST)
        manifest = _read_manifest(folder, data)
        for path, spec in manifest.files.items():
            _verified(folder, path, spec)
        categories = _read_categories(folder, manifest)
        return cls(folder, manifest, manifest_digest(data), categories)

    def graph_bytes(self, key: str) -> bytes:
        """The bytes of one graph. Raises BundleError as `file_bytes`, KeyError when it does not exist."""
        return self.file_bytes(self.manifest.graphs[key].path)

    def external_bytes(self, key: str) -> dict[str, bytes]:
        """The weights of one graph that lie outside its file, by the name the graph calls them.

        ONNX names them relative to the graph's own folder. Raises as `graph_bytes`.
        """
        graph = self.manifest.graphs[key]
        return {PurePosixPath(path).name: self.file_bytes(path) for path in graph.external}

    def file_bytes(self, path: str) -> bytes:
        """The bytes of one listed file, checked again. Raises BundleError when it changed since `read`."""
        if path not in self.manifest.files:
            raise BundleError(f"{self.folder / path}: not listed under files in {MANIFEST}")
        return _verified(self.folder, path, self.manifest.files[path])


def manifest_digest(data: bytes) -> str:
    """SHA-256 of a manifest less when it was made and what was verified later: `sha256:...`.

    It covers the hashes of all files. Fields in another order and other white space do not change it.
    Raises ValueError for what is no JSON object.
    """
    manifest = _json_object(data)
    kept = {field: value for field, value in manifest.items() if field not in _NOT_IN_DIGEST}
    return f"sha256:{_sha256(json.dumps(kept, sort_keys=True, separators=(',', ':')).encode())}"


def parse_manifest(data: bytes, where: Path | str) -> Manifest:
    """Read a manifest and check what it says of itself. Raises BundleError that begins with `where`."""
    try:
        version = _json_object(data).get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BundleError(
                f"{where}: made by a newer version: schema_version is {version}, "
                f"this one reads up to {SCHEMA_VERSION}"
            )
        manifest = Manifest.model_validate_json(data)
        check_signatures(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(f"{where}: {field}: {first['msg']}") from error
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"{where}: {error}") from error
    return manifest


def store_verification(folder: Path, verified: Verification) -> None:
    """Write a verification into the manifest, at once or not at all; the digest stays as it is.

    Raises BundleError when there is no readable manifest.
    """
    where = folder / MANIFEST
    manifest = parse_manifest(_read(where), where).model_copy(update={"verified": verified})
    part = where.with_name(f".{MANIFEST}.part")
    part.write_bytes(_dump(manifest))
    part.replace(where)


def write_bundle(
    folder: Path, manifest: Manifest, graphs: Mapping[str, bytes], categories: Iterable[Category] = ()
) -> Bundle:
    """Write a bundle beside `folder`, then move it there; an older bundle of that name is replaced.

    manifest: its `files` are filled in here. graphs: every other file by path, a tokenizer.json too.
    Raises BundleError when the result could not be read back.
    """
    contents = dict(graphs)
    known = list(categories)
    if known:
        contents[CATEGORIES] = dump_categories(known)
    manifest = manifest.model_copy(update={"files": {path: _spec(data) for path, data in contents.items()}})
    contents[MANIFEST] = _dump(manifest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        _write_files(fresh, contents)
        bundle = Bundle.read(fresh)
        replace_folder(folder, fresh, Path(scratch) / "old")
    return replace(bundle, folder=folder)


def _write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for path, data in contents.items():
        target = inside(folder, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def replace_folder(folder: Path, fresh: Path, old: Path) -> None:
    """Move `fresh` to `folder`; what was there goes to `old`, and back if that fails."""
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _read_manifest(folder: Path, data: bytes) -> Manifest:
    manifest = parse_manifest(data, folder / MANIFEST)
    used = {path for spec in manifest.graphs.values() for path in (spec.path, *spec.external)}
    if manifest.categories:
        used.add(CATEGORIES)
    unlisted = sorted(used - set(manifest.files))
    if unlisted:
        raise BundleError(f"{folder / unlisted[0]}: not listed under files in {MANIFEST}")
    return manifest


def _read_categories(folder: Path, manifest: Manifest) -> dict[str, Category]:
    if not manifest.categories:
        return {}
    where = folder / CATEGORIES
    data = _verified(folder, CATEGORIES, manifest.files[CATEGORIES])
    try:
        categories = parse_categories(data)
    except (ValueError, SafetensorError) as error:
        raise BundleError(f"{where}: {error}") from error
    if set(categories) != set(manifest.categories):
        raise BundleError(f"{where}: holds {sorted(categories)}, not {sorted(manifest.categories)}")
    for category in categories.values():
        _check_fit(category, manifest, where)
    return {name: categories[name] for name in manifest.categories}


def _check_fit(category: Category, manifest: Manifest, where: Path) -> None:
    """Raise BundleError unless the category has the width of the backbone and calibrates every expert.

    Every expert and every place of the patch grid, that is.
    """
    (calibrated, *grid), columns = (
        category.error_offset.shape,
        1 + max(one.column for one in manifest.experts),
    )
    if calibrated < columns:
        raise BundleError(
            f"{where}: category {category.name!r} calibrates {calibrated} experts, not {columns}"
        )
    if tuple(grid) != manifest.grid:
        raise BundleError(
            f"{where}: category {category.name!r} calibrates a grid of {tuple(grid)}, not {manifest.grid}"
        )
    width = manifest.graphs["backbone"].outputs["cls"].shape[-1]
    if len(category.prototype) != width:
        raise BundleError(
            f"{where}: category {category.name!r} has width {len(category.prototype)}, not {width}"
        )


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value  # pyright: ignore[reportUnknownVariableType] (JSON has string keys)


def _dump(manifest: Manifest) -> bytes:
    return (manifest.model_dump_json(indent=2) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error


def _spec(data: bytes) -> FileSpec:
    return FileSpec(sha256=_sha256(data), bytes=len(data))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _verified(folder: Path, path: str, spec: FileSpec) -> bytes:
    target = inside(folder, path)
    try:
        size = target.stat().st_size
        if size != spec.bytes:
            raise BundleError(f"{target}: has {size} bytes, {spec.bytes} expected")
        data = target.read_bytes()
    except OSError as error:
        raise BundleError(f"{target}: {error.strerror}") from error
    if _sha256(data) != spec.sha256:
        raise BundleError(f"{target}: sha256 is {_sha256(data)}, {spec.sha256} expected")
    return data


def inside(folder: Path, path: str) -> Path:
    """Where a path of the manifest lies. Raises BundleError when that is not within the folder."""
    relative = PurePosixPath(path)
    target = folder / relative
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or "\\" in path:
        raise BundleError(f"{folder}: path {path!r} leaves the bundle")
    if not target.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{target}: is a link that leaves the bundle")
    return target
