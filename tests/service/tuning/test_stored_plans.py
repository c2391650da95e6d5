"""A stored plan is used where it was measured, and whatever else lies there is left alone."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from export.contract.bundle import CATEGORIES, Bundle, write_bundle
from service.settings import Settings
from service.tuning import stored_plans as module
from service.tuning.plan import Plan
from service.tuning.stored_plans import (
    digest_of_graphs,
    plan_file,
    processor,
    read_plan,
    state_folder,
    write_plan,
)
from tests.service.conftest import settings_for

PLAN = Plan(batch=3, parallel=2, threads=2, threads_shared=1, alone_s=0.1, source="stored")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for("-", state_dir=tmp_path / "state")


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle.read(bundle_folder)


def test_what_is_stored_is_read_again_and_nothing_else_is_left(bundle: Bundle, settings: Settings) -> None:
    with capture_logs() as logs:
        assert read_plan(bundle, settings) is None
        first = write_plan(bundle, settings, PLAN.model_copy(update={"batch": 1}))
        second = write_plan(bundle, settings, PLAN)
        assert read_plan(bundle, settings) == PLAN
    assert first == second
    assert [*first.parent.iterdir()] == [first]
    assert not logs


def test_a_new_calibration_keeps_the_plan_and_other_weights_do_not(
    bundle: Bundle, settings: Settings, tmp_path: Path
) -> None:
    write_plan(bundle, settings, PLAN)
    files = {path: bundle.file_bytes(path) for path in bundle.manifest.files if path != CATEGORIES}
    kept = list(bundle.categories.values())[:1]
    manifest = bundle.manifest.model_copy(update={"categories": (kept[0].name,), "version": "2"})
    fewer = write_bundle(tmp_path / "fewer", manifest, files, kept)
    assert fewer.digest != bundle.digest
    assert read_plan(fewer, settings) == PLAN
    graphs = {**files, "graphs/head.onnx": files["graphs/head.onnx"] + b"\x00"}
    other = write_bundle(tmp_path / "other", bundle.manifest, graphs, bundle.categories.values())
    assert digest_of_graphs(other) != digest_of_graphs(bundle)
    assert read_plan(other, settings) is None


Change = Callable[[Path], object]
FOREIGN: dict[str, object] = {
    "graphs": "0" * 64,
    "runtime": "onnxruntime 1.0",
    "processor": "another",
    "cores": 4096,
    "device": "cuda",
    "threads": 7,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_was_measured_elsewhere_is_ignored_and_said_why(
    bundle: Bundle, settings: Settings, name: str
) -> None:
    file = write_plan(bundle, settings, PLAN)
    content = json.loads(file.read_text())
    assert content["conditions"].keys() == FOREIGN.keys()
    content["conditions"][name] = FOREIGN[name]
    file.write_text(json.dumps(content))
    with capture_logs() as logs:
        assert read_plan(bundle, settings) is None
    (line,) = logs
    assert (line["log_level"], line["event"], line["file"]) == ("warning", "stored plan ignored", str(file))
    assert line["reason"].startswith(f"{name} was {FOREIGN[name]}, is ")


def broken(**plan: object) -> Change:
    def change(file: Path) -> None:
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "plan": {**content["plan"], **plan}}))

    return change


def cut(file: Path) -> None:
    file.write_text(file.read_text()[:-9])


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cut, "content: Invalid JSON"),
        (lambda file: file.write_bytes(b""), "content: Invalid JSON"),
        (lambda file: file.write_bytes(b"\xff\x00"), "content: Invalid JSON"),
        (lambda file: file.write_text("[" * 100_000), "content: Invalid JSON"),
        (lambda file: file.write_text("{}"), "conditions: Field required"),
        (broken(batch=0), "plan.batch: "),
        (broken(batch="4"), "plan.batch: "),
        (broken(parallel=10**12), "plan.parallel: "),
        (broken(alone_s=float("inf")), "plan.alone_s: "),
        (broken(colour="red"), "plan.colour: "),
        (broken(source="guess"), "plan.source: "),
        (folder, "it is no file"),
        (pipe, "it is no file"),
    ],
)
def test_what_is_no_plan_is_ignored_with_one_line(
    bundle: Bundle, settings: Settings, change: Change, reason: str
) -> None:
    change(write_plan(bundle, settings, PLAN))
    with capture_logs() as logs:
        assert read_plan(bundle, settings) is None
    (line,) = logs
    assert line["reason"].startswith(reason), line


def test_a_folder_that_cannot_be_is_ignored_too_but_not_written_to(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "a" * 5000, "nul\0"):
        settings = settings_for("-", state_dir=tmp_path / name)
        with capture_logs() as logs:
            assert read_plan(bundle, settings) is None
        assert [one["event"] for one in logs] == ["stored plan ignored"]
        with pytest.raises((OSError, ValueError)):
            write_plan(bundle, settings, PLAN)


def test_a_plan_that_cannot_be_written_leaves_the_old_one(
    bundle: Bundle, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_plan(bundle, settings, PLAN)

    def full(self: Path, *_: object, **__: object) -> None:
        self.touch()
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        write_plan(bundle, settings, PLAN.model_copy(update={"batch": 7}))
    assert [*file.parent.iterdir()] == [file]
    assert read_plan(bundle, settings) == PLAN


def test_the_folder_is_the_one_that_is_set_or_the_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert state_folder(settings_for("-", state_dir="/state")) == Path("/state")
    assert state_folder(settings_for("-", state_dir="~/here")) == tmp_path / "here"
    assert state_folder(settings_for("-", state_dir=None)) == tmp_path / ".local/state/anomoe"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own"))
    assert state_folder(settings_for("-", state_dir=None)) == tmp_path / "own/anomoe"
    assert plan_file(bundle, settings_for("-", state_dir=None)).is_relative_to(tmp_path / "own/anomoe")

    def homeless(_: Path) -> Path:
        raise RuntimeError("no home directory")

    settings = settings_for("-", state_dir=None)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with capture_logs() as logs:
        assert read_plan(bundle, settings) is None
    assert [one["reason"] for one in logs] == ["state_dir: no home directory"]


def test_the_processor_is_named_once_with_its_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    core = "processor\t: {}\nmodel\t\t: 17\nmodel name\t: Fast 9\ncpu MHz\t: {}00.5\n"
    (tmp_path / "cpuinfo").write_text(core.format(0, 1) + core.format(1, 2))
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(module, "GPUS", tmp_path / "gpus")
    assert processor() == "model 17, model name Fast 9"
    (tmp_path / "gpus/0000").mkdir(parents=True)
    (tmp_path / "gpus/0000/information").write_text("Model: \t\t GPU 1\nIRQ: 3\n")
    assert processor() == "model 17, model name Fast 9, Model GPU 1"
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(module, "GPUS", tmp_path / "none")
    assert processor()
