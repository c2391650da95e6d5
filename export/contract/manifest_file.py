"""The file manifest.json: read, checked, told apart from others by its digest, and marked as verified."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from export.contract.manifest import SCHEMA_VERSION, Manifest
from export.contract.provenance import Verification
from export.contract.signature import check_signatures

MANIFEST = "manifest.json"
_NOT_IN_DIGEST = ("created", "verified")


class BundleError(ValueError):
    """A bundle that must not be served; the message names the file."""


def manifest_digest(data: bytes) -> str:
    """SHA-256 of a manifest less when it was made and what was verified later: `sha256:...`.

    It covers the hashes of all files. Fields in another order and other white space do not change it.
    Raises ValueError for what is no JSON object.
    """
    manifest = _json_object(data)
    kept = {field: value for field, value in manifest.items() if field not in _NOT_IN_DIGEST}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


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
    data = read_bytes(where)
    parse_manifest(data, where)
    # As it was otherwise: fields that a newer version knows would change the digest.
    manifest = _json_object(data) | {"verified": verified.model_dump(mode="json")}
    part = where.with_name(f".{MANIFEST}.part")
    part.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    part.replace(where)


def dump_manifest(manifest: Manifest) -> bytes:
    """A manifest as it is written."""
    return (manifest.model_dump_json(indent=2) + "\n").encode()


def read_bytes(path: Path) -> bytes:
    """A whole file. Raises BundleError naming it, also for what is no file."""
    try:
        if path.exists() and not path.is_file():
            raise BundleError(f"{path}: is no file")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data, object_pairs_hook=_without_repeats)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"is no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value  # pyright: ignore[reportUnknownVariableType] (JSON has string keys)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which no reader could take another value for a field. Raises ValueError."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)}: occurs twice")
    return fields
