"""Import rules: training -> export.contract <- service, export -> training; the service never needs torch.

Export also runs what it made through the engines of the service, to compare it with the torch model.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("training", "export", "service")
HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy")

# What of ours each package may import, itself aside; and what of others it may not.
ALLOWED = {
    "export.contract": (),
    "service": ("export.contract",),
    "training": ("export.contract",),
    "export": (
        "training",
        "service.backends",
        "service.inference.anomalymoe",
        "service.inference.moeclip",
        "service.inference.text_tower",
    ),
}
FORBIDDEN = {"export.contract": HEAVY, "service": HEAVY, "training": (), "export": ()}

# The one file that may import torch, when it is asked for a TorchScript graph.
TORCHSCRIPT = ROOT / "service" / "backends" / "torchscript.py"


def modules(package: str) -> list[Path]:
    """All files of a package, less those of a package within it that has rules of its own."""
    folder = ROOT.joinpath(*package.split("."))
    inner = [ROOT.joinpath(*other.split(".")) for other in ALLOWED if other.startswith(f"{package}.")]
    return [path for path in folder.rglob("*.py") if not any(path.is_relative_to(one) for one in inner)]


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def lies_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def broken_rules(package: str) -> list[str]:
    """Every import of a package that the rules do not allow."""
    allowed = (package, *ALLOWED[package])
    broken = []
    for path in modules(package):
        forbidden = () if path == TORCHSCRIPT else FORBIDDEN[package]
        for name in imported(path):
            is_ours = lies_in(name, OURS)
            if (is_ours and not lies_in(name, allowed)) or lies_in(name, forbidden):
                broken.append(f"{path.relative_to(ROOT)}: {name}")
    return broken


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    assert modules(package), f"no files found in {package}"
    assert broken_rules(package) == []


def test_the_rules_see_an_import_inside_a_function(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import os.path\ndef f():\n    from training import data\n    import torch.nn as nn\n")
    assert list(imported(path)) == ["os.path", "training.data.pictures", "torch.nn"]
    assert lies_in("torch.nn", HEAVY)
    assert not lies_in("torchmetrics", HEAVY)


def test_every_package_of_ours_has_rules() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert folders == {package.split(".")[0] for package in ALLOWED} == set(OURS)


def test_init_files_hold_a_docstring_and_nothing_else() -> None:
    for package in OURS:
        for path in (ROOT / package).rglob("__init__.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree), path
            assert len(tree.body) == 1, path


@pytest.mark.parametrize(
    "module", ["service.app", "service.cli", "service.client", "export.contract.bundle", "export.cli"]
)
def test_importing_leaves_torch_out(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = result.stdout.split()
    assert module in loaded
    assert [name for name in loaded if lies_in(name, (*HEAVY, "training"))] == []
