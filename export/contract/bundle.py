"""A bundle on disk: written at once or not at all, and checked whole before anything of it is used."""

import hashlib
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from safetensors import SafetensorError

from export.contract.category import (
    Category,
    ClassScores,
    NormalScores,
    dump_categories,
    parse_categories,
    parse_class_scores,
)
from export.contract.manifest import TOKENIZER, FileSpec, Manifest
from export.contract.manifest_file import (
    MANIFEST,
    BundleError,
    dump_manifest,
    manifest_digest,
    parse_manifest,
    read_bytes,
)
from export.contract.names import canonical_name

CATEGORIES = "categories.safetensors"

AnyCategory = TypeVar("AnyCategory", bound=NormalScores)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose every file had the size and SHA-256 of its manifest when it was read.

    digest: see `manifest_digest`. categories: the products of an anomalymoe bundle. class_scores: of a
    moeclip bundle, what normal pictures have calibrated, by canonical class name. The other one is empty.
    """

    folder: Path
    manifest: Manifest
    digest: str
    categories: dict[str, Category]
    class_scores: dict[str, ClassScores]

    @classmethod
    def read(cls, folder: Path) -> "Bundle":
        """Check manifest, paths, sizes and hashes of all files, then the categories.

        Files that the manifest does not list are never read.

        Raises BundleError naming the file at fault.
        """
        data = read_bytes(inside(folder, MANIFEST))
        manifest = _read_manifest(folder, data)
        for path, spec in manifest.files.items():
            _verified(folder, path, spec)
        categories, class_scores = _read_categories(folder, manifest)
        return cls(folder, manifest, manifest_digest(data), categories, class_scores)

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


def write_bundle(
    folder: Path, manifest: Manifest, graphs: Mapping[str, bytes], categories: Iterable[NormalScores] = ()
) -> Bundle:
    """Write a bundle beside `folder`, then move it there; an older bundle of that name is replaced.

    manifest: its `files` are filled in here. graphs: every other file by path, a tokenizer.json too.
    Raises BundleError when the result could not be read back, or as `replace_folder`.
    """
    contents = dict(graphs)
    known = list(categories)
    if known:
        contents[CATEGORIES] = dump_categories(known)
    manifest = manifest.model_copy(update={"files": {path: _spec(data) for path, data in contents.items()}})
    contents[MANIFEST] = dump_manifest(manifest)
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
    """Move `fresh` to `folder`; a bundle that was there goes to `old`, and back if that fails.

    Raises BundleError when anything else is there: a slip of the finger must not cost a run or its pictures.
    """
    if folder.exists():
        is_bundle = (folder / MANIFEST).is_file() and (folder / "graphs").is_dir()
        if not is_bundle and (not folder.is_dir() or any(folder.iterdir())):
            raise BundleError(f"{folder}: is there and is no bundle, it is not replaced")
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
    if manifest.zero_shot:
        used.add(TOKENIZER)
    unlisted = sorted(used - set(manifest.files))
    if unlisted:
        raise BundleError(f"{folder / unlisted[0]}: not listed under files in {MANIFEST}")
    return manifest


def _read_categories(folder: Path, manifest: Manifest) -> tuple[dict[str, Category], dict[str, ClassScores]]:
    if not manifest.categories:
        return {}, {}
    where = folder / CATEGORIES
    data = _verified(folder, CATEGORIES, manifest.files[CATEGORIES])
    try:
        categories = parse_categories(data) if manifest.kind == "anomalymoe" else {}
        class_scores = parse_class_scores(data) if manifest.kind == "moeclip" else {}
    except (ValueError, SafetensorError) as error:
        raise BundleError(f"{where}: {error}") from error
    names = manifest.categories if categories else tuple(map(canonical_name, manifest.categories))
    found = {*categories, *class_scores}
    if found != set(names):
        raise BundleError(f"{where}: holds {sorted(found)}, not {sorted(set(names))}")
    for category in categories.values():
        _check_fit(category, manifest, where)
    return _in_order(categories, names), _in_order(class_scores, names)


def _in_order(categories: dict[str, AnyCategory], names: Iterable[str]) -> dict[str, AnyCategory]:
    return {name: categories[name] for name in names if name in categories}


def _check_fit(category: Category, manifest: Manifest, where: Path) -> None:
    """Raise BundleError unless the category has the widths of the graphs and calibrates every expert.

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
    graphs = [manifest.graphs[one.graph] for one in manifest.experts if one.level == "component"]
    widths = [
        ("a prototype", len(category.prototype), manifest.graphs["backbone"].outputs["cls"]),
        *(("centres", category.centres.shape[1], graph.inputs["centres"]) for graph in graphs),
    ]
    for field, width, tensor in widths:
        if width != tensor.shape[-1]:
            raise BundleError(
                f"{where}: category {category.name!r} has {field} of width {width}, not {tensor.shape[-1]}"
            )


def _spec(data: bytes) -> FileSpec:
    return FileSpec(sha256=_sha256(data), bytes=len(data))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _verified(folder: Path, path: str, spec: FileSpec) -> bytes:
    target = inside(folder, path)
    try:
        status = target.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{target}: is no file")
        size = status.st_size
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
    try:
        is_within = target.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a zero byte
        raise BundleError(f"{folder}: path {path!r} leads nowhere: {error}") from error
    if not is_within:
        raise BundleError(f"{target}: is a link that leaves the bundle")
    return target
