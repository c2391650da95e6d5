"""The export command: what it prints, its exit codes, and reasons of one line."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from export.cli import app
from export.contract.bundle import Bundle
from tests.export.conftest import Exported
from training.runs.files import WEIGHTS, replace_categories

runner = CliRunner()


def run(*arguments: object) -> Result:
    return runner.invoke(app, [str(one) for one in arguments])


def reason(result: Result) -> str:
    """The only line on the error stream of a command that failed with exit code 1."""
    assert result.exit_code == 1, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("anomoe-export: ")
    return lines[0]


@pytest.fixture
def broken_bundle(exported: Exported, tmp_path: Path) -> Path:
    """A bundle with one byte of a graph changed."""
    bundle = shutil.copytree(exported.bundle.folder, tmp_path / "bundle")
    graph = bundle / "graphs" / "router.onnx"
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(bytes(data))
    return bundle


@pytest.fixture
def changed_run(exported: Exported, tmp_path: Path) -> Path:
    """The run with other router weights."""
    folder = shutil.copytree(exported.folder, tmp_path / "run")
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"router.gate.weight": -tensors["router.gate.weight"]}, folder / WEIGHTS)
    return folder


def test_build_says_what_it_wrote(exported: Exported) -> None:
    printed = " ".join(exported.answer.stdout.split())
    assert "8 graphs" in printed
    assert exported.bundle.digest in printed.replace(" ", "")
    assert exported.bundle.manifest.name == "tiny"


def test_build_names_what_is_missing(exported: Exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "run")
    (folder / WEIGHTS).unlink()
    assert str(folder / WEIGHTS) in reason(run("build", folder, tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()


def test_verify_accepts_an_honest_bundle(exported: Exported) -> None:
    result = run("verify", exported.bundle.folder, "--checkpoint", exported.folder)
    assert result.exit_code == 0, result.output
    assert "expert-global-0" in result.stdout


def test_verify_names_the_graph_that_differs(exported: Exported, changed_run: Path) -> None:
    line = reason(run("verify", exported.bundle.folder, "--checkpoint", changed_run))
    assert line.endswith("differs by more than 0.0001 in router, map, score")


def test_verify_names_what_another_run_has_otherwise(exported: Exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "run")
    replace_categories(folder, [exported.checkpoint.categories["disc"]])
    line = reason(run("verify", exported.bundle.folder, "--checkpoint", folder))
    assert line.endswith("made from another run: categories disc, square in the bundle, disc in the run")


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_changed_file_is_named(broken_bundle: Path, exported: Exported, command: str) -> None:
    options = ["--checkpoint", exported.folder] if command == "verify" else []
    line = reason(run(command, broken_bundle, *options))
    assert str(broken_bundle / "graphs" / "router.onnx") in line


def test_inspect_lists_graphs_and_categories(exported: Exported) -> None:
    result = run("inspect", exported.bundle.folder)
    assert result.exit_code == 0, result.output
    assert "tiny version 3, anomalymoe" in result.stdout
    for graph in exported.bundle.manifest.graphs:
        assert graph in result.stdout
    for name, category in exported.bundle.categories.items():
        lines = [line for line in result.stdout.splitlines() if line.startswith(f"│ {name} ")]
        assert any(f" {len(category.scores)} " in line for line in lines)


def test_inspect_of_another_folder_fails(tmp_path: Path) -> None:
    assert "manifest.json" in reason(run("inspect", tmp_path))


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "nowhere", "bundle"],
        ["verify", "nowhere", "--checkpoint", "."],
        ["verify", "."],
        ["unknown"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("command", ["build", "verify", "inspect", "push", "pull"])
def test_help_shows_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"anomoe-export {command} " in result.stdout


def test_a_bundle_for_one_product_is_built_measured_and_verified(
    exported: Exported, data: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "disc"
    options = ["--categories", "disc", "--format", "torchscript", "--data", data]
    built = run("build", exported.folder, bundle, *options)
    assert built.exit_code == 0, built.output
    assert "square" in next(line for line in built.stdout.splitlines() if line.startswith("left out: "))
    assert "image AUROC in percent" in built.stdout
    before = Bundle.read(bundle)
    verified = run("verify", bundle, "--checkpoint", exported.folder, "--data", data)
    assert verified.exit_code == 0, verified.output
    after = Bundle.read(bundle)
    assert after.digest == before.digest
    assert before.manifest.verified is None
    assert after.manifest.verified is not None
    assert (after.manifest.verified.random, after.manifest.verified.real) == (12, 12)
    inspected = run("inspect", bundle)
    assert "verified within 0.0001" in inspected.stdout
    assert "left out: categories square" in inspected.stdout


def test_building_twice_gives_the_same_digest(exported: Exported, scripted: Bundle, tmp_path: Path) -> None:
    options = ["--name", "tiny", "--version", "3", "--format", "torchscript", "--keep-unused"]
    assert run("build", exported.folder, tmp_path / "again", *options).exit_code == 0
    assert Bundle.read(tmp_path / "again").digest == scripted.digest


def test_a_refused_bundle_is_not_marked_as_verified(exported: Exported, changed_run: Path) -> None:
    reason(run("verify", exported.bundle.folder, "--checkpoint", changed_run))
    assert Bundle.read(exported.bundle.folder).digest == exported.bundle.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--categories", "ring"], "categories: ring not among those of the run, disc, square"),
        (
            ["--format", "torchscript", "--precision", "int8"],
            "precision: 'int8' is there for format 'onnx' only",
        ),
        (["--precision", "int8-static"], "precision: 'int8-static' needs normal pictures to calibrate on"),
    ],
)
def test_build_refuses_what_cannot_be_had(
    exported: Exported, tmp_path: Path, options: list[str], message: str
) -> None:
    assert message in reason(run("build", exported.folder, tmp_path / "bundle", *options))
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_pushed_and_pulled(exported: Exported, tmp_path: Path) -> None:
    pushed = run("push", exported.bundle.folder, tmp_path / "shelf")
    assert exported.bundle.digest in pushed.stdout.replace("\n", "")
    pulled = run("pull", tmp_path / "shelf", tmp_path / "line", "--digest", exported.bundle.digest)
    assert pulled.exit_code == 0, pulled.output
    assert Bundle.read(tmp_path / "line").digest == exported.bundle.digest
    line = reason(run("pull", tmp_path / "shelf", tmp_path / "other", "--digest", "sha256:0"))
    assert "sha256:0 expected" in line
    assert not (tmp_path / "other").exists()


def test_inspect_names_a_file_that_holds_another_graph(exported: Exported, tmp_path: Path) -> None:
    """Size and hash in the manifest are those of the file; its signature is not."""
    bundle = shutil.copytree(exported.bundle.folder, tmp_path / "bundle")
    data = (bundle / "graphs" / "router.onnx").read_bytes()
    (bundle / "graphs" / "head.onnx").write_bytes(data)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["graphs/head.onnx"] = manifest["files"]["graphs/router.onnx"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    for command in (["inspect"], ["verify", "--checkpoint", exported.folder]):
        line = reason(run(*command, bundle))
        assert f"{bundle / 'graphs' / 'head.onnx'}: head: has ['cls', 'experts', 'gates']" in line
