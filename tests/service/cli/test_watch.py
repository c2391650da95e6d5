"""`anomoe watch` with a service that listens, and with a bundle."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli.commands import app
from tests.tiny_bundle import plain_picture, spotted_picture

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A normal and an anomalous picture, and one that is none."""
    plain_picture("brick").save(tmp_path / "good.png")
    spotted_picture("brick").save(tmp_path / "bad.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    return tmp_path


def watch(folder: Path, *options: object) -> Result:
    return runner.invoke(app, ["watch", str(folder), "--once", "--settle-s", "0", *map(str, options)])


@pytest.mark.parametrize("has_server", [True, False])
def test_pictures_are_sorted(
    service_url: str, bundle_folder: Path, folder: Path, restored_logging: None, has_server: bool
) -> None:
    who = ("--url", service_url) if has_server else ("--bundle", bundle_folder)
    result = watch(folder, *who, "--category", "brick", "--alpha", "0.1")
    assert result.exit_code == 0, result.output
    found = {
        name: path.parent.name for name in ("good", "bad", "torn") for path in folder.glob(f"*/{name}.png")
    }
    assert found == {"good": "ok", "bad": "anomaly", "torn": "unknown"}
    told = [json.loads(line) for line in (folder / "watch.jsonl").read_text().splitlines()]
    assert {line["moved_to"] for line in told} == {f"{place}/{name}.png" for name, place in found.items()}
    assert {line.get("category") for line in told} == {"brick", None}
    assert len(result.stdout.splitlines()) == 3


def test_what_lets_no_picture_be_judged_ends_with_one_line(service_url: str, folder: Path) -> None:
    result = watch(folder, "--url", service_url, "--category", "nothing")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "No such category (404)" in result.stderr
    assert watch(folder, "--url", service_url).exit_code == 0


def test_wrong_usage_gives_code_2(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANOMOE_WEBHOOK_SECRET", raising=False)
    result = watch(folder, "--webhook", "http://gateway")
    assert (result.exit_code, "ANOMOE_WEBHOOK_SECRET" in result.stderr) == (2, True)
    assert watch(folder / "nowhere").exit_code == watch(folder, "--alpha", "2").exit_code == 2
    monkeypatch.setenv("ANOMOE_WEBHOOK_SECRET", "s")
    assert "an address like" in watch(folder, "--webhook", "gateway").stderr
