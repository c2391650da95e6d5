"""Bundles to and from elsewhere: a hub, a folder, or a web address.

Only `manifest.json` and what it lists travels. What is pulled is checked against its digest before any other
file is fetched, and placed at once or not at all.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import httpx
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from rich.progress import Progress

from export.contract.bundle import Bundle, inside, replace_folder
from export.contract.manifest_file import MANIFEST, manifest_digest, parse_manifest

HUB = "hf://"
WEB = "https://"
MANIFEST_LIMIT = 16 * 2**20  # bytes
TIMEOUT_S = 60


class HubError(RuntimeError):
    """A transfer that failed; the message names the place."""


class Source(Protocol):
    """Where the files of a bundle come from."""

    def fetch(self, path: str, target: Path, limit: int) -> None:
        """Write one file of the bundle to `target`. Raises HubError, also beyond `limit` bytes."""
        ...


class FolderSource:
    """A plain folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self, path: str, target: Path, limit: int) -> None:
        source = inside(self.folder, path)
        try:
            _check_size(str(source), source.stat().st_size, limit)
            shutil.copyfile(source, target)
        except OSError as error:
            raise HubError(f"{source}: {error.strerror}") from error


class WebSource:
    """A web address under which the files lie by their paths, `ADDRESS/manifest.json` among them."""

    def __init__(self, address: str, client: httpx.Client) -> None:
        self.address, self.client = address.rstrip("/"), client

    def fetch(self, path: str, target: Path, limit: int) -> None:
        url = f"{self.address}/{path}"
        size = 0
        try:
            with self.client.stream("GET", url) as answer, target.open("wb") as file:
                answer.raise_for_status()
                for chunk in answer.iter_bytes():
                    size += len(chunk)
                    _check_size(url, size, limit)
                    file.write(chunk)
        except httpx.HTTPStatusError as error:
            raise HubError(f"{url}: status {error.response.status_code}") from error
        except httpx.HTTPError as error:
            raise HubError(f"{url}: {error}") from error


class HubSource:
    """A repository of the Hugging Face hub, `owner/name` or `owner/name@revision`."""

    def __init__(self, repository: str) -> None:
        self.repository, _, revision = repository.partition("@")
        self.revision = revision or None

    def fetch(self, path: str, target: Path, limit: int) -> None:
        where = f"{HUB}{self.repository}/{path}"
        try:
            cached = Path(hf_hub_download(self.repository, path, revision=self.revision))
        except _HUB_ERRORS as error:
            raise HubError(f"{where}: {_first_line(error)}") from error
        _check_size(where, cached.stat().st_size, limit)
        shutil.copyfile(cached, target)


_HUB_ERRORS = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, httpx.HTTPError, OSError)


def push_bundle(folder: Path, target: str) -> str:
    """Check a bundle and copy it to `hf://owner/name`, made if it is not there, or to a folder; its digest.

    Raises BundleError for a bundle with a fault, HubError when it cannot be copied.
    """
    bundle = Bundle.read(folder)
    if target.startswith(HUB):
        _upload(bundle, target.removeprefix(HUB))
    elif "://" in target:
        raise HubError(f"{target}: push takes {HUB}OWNER/NAME or a folder")
    else:
        _pull(FolderSource(folder), Path(target), bundle.digest, Progress(disable=True))
    return bundle.digest


def pull_bundle(source: str, folder: Path, digest: str | None, progress: Progress) -> Bundle:
    """Fetch a bundle from `hf://owner/name[@revision]`, `https://...` or a folder; an older one is replaced.

    digest: that the bundle must have; may be left out but for https. Raises HubError or BundleError, and
    then `folder` is as it was.
    """
    if source.startswith(HUB):
        return _pull(HubSource(source.removeprefix(HUB)), folder, digest, progress)
    if not source.startswith(WEB):
        if "://" in source:
            raise HubError(f"{source}: pull takes {HUB}OWNER/NAME, {WEB}HOST/PATH or a folder")
        return _pull(FolderSource(Path(source)), folder, digest, progress)
    if digest is None:
        raise HubError(f"{source}: a bundle from the web needs --digest")
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
        return _pull(WebSource(source, client), folder, digest, progress)


def _pull(source: Source, folder: Path, digest: str | None, progress: Progress) -> Bundle:
    with _beside(folder) as scratch:
        fresh = scratch / "fresh"
        fresh.mkdir()
        source.fetch(MANIFEST, fresh / MANIFEST, MANIFEST_LIMIT)
        data = (fresh / MANIFEST).read_bytes()
        manifest = parse_manifest(data, MANIFEST)
        found = manifest_digest(data)
        if digest is not None and found != digest:
            raise HubError(f"{MANIFEST}: digest is {found}, {digest} expected")
        for path, spec in progress.track(manifest.files.items(), description="pull"):
            target = inside(fresh, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.fetch(path, target, spec.bytes)
        bundle = Bundle.read(fresh)
        replace_folder(folder, fresh, scratch / "old")
    return replace(bundle, folder=folder)


def _upload(bundle: Bundle, repository: str) -> None:
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=bundle.folder,
            allow_patterns=[MANIFEST, *bundle.manifest.files],
            commit_message=f"{bundle.manifest.name} version {bundle.manifest.version}, {bundle.digest}",
        )
    except _HUB_ERRORS as error:
        raise HubError(f"{HUB}{repository}: {_first_line(error)}") from error


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A scratch folder on the same disk, so that the last step is a rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        yield Path(scratch)


def _check_size(where: str, size: int, limit: int) -> None:
    if size > limit:
        raise HubError(f"{where}: has more than the {limit} bytes expected")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
