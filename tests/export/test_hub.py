"""Bundles to and from folders, web addresses and a hub: all or nothing, and only what the manifest lists."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from export import hub
from export.contract.bundle import Bundle, BundleError
from export.hub import HubError, pull_bundle, push_bundle
from tests.tiny_bundle import make_tiny_bundle
from tests.training.tiny_run import quiet_progress

ADDRESS = "https://models.example/tiny"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = make_tiny_bundle(tmp_path / "made" / "tiny")
    (folder / "notes.txt").write_text("not in the manifest")
    return Bundle.read(folder)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "pulled" / "tiny"


def pull(source: str | Path, target: Path, digest: str | None = None) -> Bundle:
    return pull_bundle(str(source), target, digest, quiet_progress())


def left(target: Path) -> list[str]:
    """What lies where the bundle should be, half-written files included."""
    return [path.name for path in target.parent.iterdir()] if target.parent.exists() else []


def serve_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
    """Answer web requests from a folder, and note the paths that were asked for."""

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/tiny/")
        asked.append(path)
        file = folder / path
        return httpx.Response(200, content=file.read_bytes()) if file.is_file() else httpx.Response(404)

    real = httpx.Client

    def client(**options: Any) -> httpx.Client:
        return real(transport=httpx.MockTransport(answer), **options)

    monkeypatch.setattr(hub.httpx, "Client", client)


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_gives_what_the_manifest_lists(bundle: Bundle, target: Path) -> None:
    pulled = pull(bundle.folder, target, bundle.digest)
    assert (pulled.folder, pulled.digest) == (target, bundle.digest)
    assert Bundle.read(target).digest == bundle.digest
    assert not (target / "notes.txt").exists()
    assert left(target) == ["tiny"]


def test_pushing_to_a_folder_copies_a_checked_bundle(bundle: Bundle, target: Path) -> None:
    assert push_bundle(bundle.folder, str(target)) == bundle.digest
    assert Bundle.read(target).digest == bundle.digest
    (bundle.folder / "graphs" / "head.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"head\.onnx"):
        push_bundle(bundle.folder, str(target))
    assert Bundle.read(target).digest == bundle.digest


def test_an_older_bundle_is_replaced_only_by_a_good_one(bundle: Bundle, target: Path) -> None:
    old = Bundle.read(make_tiny_bundle(target, version="0"))
    shutil.copy(bundle.folder / "graphs/router.onnx", bundle.folder / "graphs/head.onnx")
    with pytest.raises((HubError, BundleError), match=r"head\.onnx"):
        pull(bundle.folder, target)
    assert Bundle.read(target).digest == old.digest
    assert left(target) == ["tiny"]


def test_the_web_gives_a_bundle_with_the_right_digest(
    bundle: Bundle, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    serve_folder(bundle.folder, monkeypatch, asked)
    assert pull(ADDRESS, target, bundle.digest).digest == bundle.digest
    assert asked[0] == "manifest.json"
    assert sorted(asked[1:]) == sorted(bundle.manifest.files)


def test_nothing_else_is_fetched_when_the_digest_is_another(
    bundle: Bundle, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    serve_folder(bundle.folder, monkeypatch, asked)
    with pytest.raises(HubError, match=f"digest is {bundle.digest}, sha256:00 expected"):
        pull(ADDRESS, target, "sha256:00")
    assert asked == ["manifest.json"]
    assert left(target) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (ADDRESS, "needs --digest"),
        ("http://models.example/tiny", "pull takes hf://"),
        ("ftp://models.example/tiny", "pull takes hf://"),
    ],
)
def test_sources_without_a_promise_are_refused(source: str, message: str, target: Path) -> None:
    with pytest.raises(HubError, match=message):
        pull(source, target)
    with pytest.raises(HubError, match="push takes hf://"):
        hub.push_bundle(make_tiny_bundle(target), source)


def test_a_missing_file_is_named(bundle: Bundle, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_folder(bundle.folder, monkeypatch, [])
    (bundle.folder / "graphs" / "head.onnx").unlink()
    with pytest.raises(HubError, match=r"tiny/graphs/head\.onnx: status 404"):
        pull(ADDRESS, target, bundle.digest)
    assert left(target) == []


def test_a_longer_file_is_cut_off(bundle: Bundle, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_folder(bundle.folder, monkeypatch, [])
    with (bundle.folder / "graphs" / "head.onnx").open("ab") as file:
        file.write(bytes(1000))
    with pytest.raises(HubError, match=r"head\.onnx: has more than the \d+ bytes expected"):
        pull(ADDRESS, target, bundle.digest)
    assert left(target) == []


@pytest.mark.parametrize("path", ["../../escaped", "/tmp/escaped", "graphs/../../escaped"])
def test_a_path_that_climbs_out_is_refused_before_it_is_written(
    bundle: Bundle, target: Path, path: str
) -> None:
    files = {path: {"sha256": "0" * 64, "bytes": 1}}
    change_manifest(bundle.folder, files=files | {
        name: spec.model_dump() for name, spec in bundle.manifest.files.items()
    })  # fmt: skip
    with pytest.raises(BundleError, match="leaves the bundle"):
        pull(bundle.folder, target)
    assert left(target) == []


def test_a_newer_bundle_is_refused_before_its_graphs_are_fetched(
    bundle: Bundle, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    serve_folder(bundle.folder, monkeypatch, asked)
    change_manifest(bundle.folder, schema_version=99)
    with pytest.raises(BundleError, match=r"manifest\.json: made by a newer version"):
        pull(ADDRESS, target, bundle.digest)
    assert asked == ["manifest.json"]


class FakeHub:
    """A hub whose repositories are folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commits: list[str] = []

    def create_repo(self, repository: str, exist_ok: bool) -> None:
        (self.root / repository).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(
        self, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str
    ) -> None:
        for path in allow_patterns:
            target = self.root / repo_id / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder_path / path, target)
        self.commits.append(commit_message)

    def download(self, repository: str, path: str, revision: str | None) -> str:
        file = self.root / repository / path
        if not file.is_file() or revision not in (None, "main"):
            raise LocalEntryNotFoundError(f"no {path} in {repository} at {revision}")
        return str(file)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(hub, "HfApi", lambda: fake)
    monkeypatch.setattr(hub, "hf_hub_download", fake.download)
    return fake


def test_a_bundle_goes_to_the_hub_and_back(bundle: Bundle, target: Path, fake_hub: FakeHub) -> None:
    assert push_bundle(bundle.folder, "hf://factory/tiny") == bundle.digest
    assert fake_hub.commits == [f"tiny version 1, {bundle.digest}"]
    assert not (fake_hub.root / "factory/tiny/notes.txt").exists()
    for source in ("hf://factory/tiny", "hf://factory/tiny@main"):
        assert pull(source, target, bundle.digest).digest == bundle.digest


def test_a_repository_that_is_not_there_is_named(target: Path, fake_hub: FakeHub) -> None:
    with pytest.raises(HubError, match=r"hf://factory/other/manifest\.json: no manifest\.json"):
        pull("hf://factory/other", target)
    assert left(target) == []
