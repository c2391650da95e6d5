"""Who may import whom: packages in an order, no circle, few files a folder; the service never needs torch.

Export also runs what it made through the engines of the service, to compare it with the torch model.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("training", "export", "service")
HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy")
MOST_FILES = 12  # a folder

# What of ours each package may import, itself aside; and what of others it may not.
ALLOWED = {
    "export.contract": (),
    "service": ("export.contract",),
    "training": ("export.contract",),
    "export": ("training", "service.inference"),
}
FORBIDDEN = {"export.contract": HEAVY, "service": HEAVY, "training": (), "export": ()}

# The one file that may import torch, when it is asked for a TorchScript graph.
TORCHSCRIPT = "service.inference.backends.torchscript"

# Folders and files, lowest first: each imports from lower lines and from its own folder.
ORDER = {
    "service": (
        "errors settings api_keys process throttle tracing",
        "scheduling schemas images inference.backends metrics logging watch",
        "inference tuning maps",
        "drift",
        "models",
        "detection middleware",
        "api connection",
        "app",
        "run",
        "cli",
    ),
    "training": (
        "device metrics reach stable_adamw data backbones moeclip.model moeclip.losses demo.drawing",
        "distributed pixels anomalymoe.model figures demo.factory demo.things",
        "reporting",
        "anomalymoe.losses anomalymoe.calibration runs",
        "anomalymoe.weights moeclip.weights backbones.offline",
        "anomalymoe moeclip",
        "anomalymoe.evaluation moeclip.analysis demo.tiny_clip",
        "anomalymoe.analysis",
        "cli",
    ),
    "export": ("contract", "graphs hub summary", "formats", "bundles", "verify", "assemble", "cli"),
}

# What a folder may import of ours, where the order allows more.
ONLY = {"service.scheduling": ("service.scheduling", "service.errors")}

# What of others only some may import.
WEB = ("service.app", "service.api", "service.middleware", "service.connection.server")
RESERVED = {
    "uvicorn": ("service.connection",),
    "httptools": ("service.connection",),
    "starlette": WEB,
    "fastapi": WEB,
    "opentelemetry": ("service.tracing",),
}


def module_of(path: Path) -> str:
    """Its full name; that of an `__init__` is the folder's."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(path): path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))}
MODULES = frozenset(FILES) - {module_of(path.parent / "__init__.py") for path in FILES.values()}


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


def ours(module: str) -> set[str]:
    """The modules of ours that one imports."""
    names = set(imported(FILES[module]))
    return {name if name in MODULES else name.rpartition(".")[0] for name in names} & MODULES


IMPORTS = {module: ours(module) for module in MODULES}


def inside(package: str) -> list[str]:
    """All modules of a package, less those of a package within it that has rules of its own."""
    inner = tuple(other for other in ALLOWED if other.startswith(f"{package}."))
    return [module for module in FILES if lies_in(module, (package,)) and not lies_in(module, inner)]


def broken_rules(package: str) -> list[str]:
    """Every import of a package that the rules do not allow."""
    allowed = (package, *ALLOWED[package])
    broken = []
    for module in inside(package):
        forbidden = () if module == TORCHSCRIPT else FORBIDDEN[package]
        for name in imported(FILES[module]):
            is_ours = lies_in(name, OURS)
            if (is_ours and not lies_in(name, allowed)) or lies_in(name, forbidden):
                broken.append(f"{module}: {name}")
    return broken


def level(module: str) -> tuple[int, str]:
    """The line of the order that a module is on, and the folder or file there that it belongs to."""
    root = module.partition(".")[0]
    places = [(number, f"{root}.{name}") for number, line in enumerate(ORDER[root]) for name in line.split()]
    found = [place for place in places if lies_in(module, (place[1],))]
    assert found, f"{module} is on no line of the order"
    return max(found, key=lambda place: len(place[1]))  # of a folder within a folder that is named too


def is_upward(module: str, other: str) -> bool:
    """Whether an import goes to the same line or a higher one of the importing module's own package."""
    if module.partition(".")[0] != other.partition(".")[0]:
        return False
    (own_line, own), (line, place) = level(module), level(other)
    return own != place and line >= own_line


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Nodes of a graph that lead back to themselves, among what only such nodes lead to; none without."""
    left = dict(graph)
    while ends := [node for node, others in left.items() if not others & left.keys() - {node}]:
        for node in ends:
            del left[node]
    return sorted(left)


def folder_of(module: str) -> str:
    """Its folder; the files beside the packages, of which some are the lowest and some the highest, alone."""
    folder = module.rpartition(".")[0]
    return module if folder in OURS else folder


def folders() -> dict[str, set[str]]:
    """The folders that the files of each folder import from."""
    found: dict[str, set[str]] = {}
    for module, others in IMPORTS.items():
        found.setdefault(folder_of(module), set()).update(map(folder_of, others))
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    assert inside(package), f"no files found in {package}"
    assert broken_rules(package) == []


def test_the_rules_see_an_import_inside_a_function(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import os.path\ndef f():\n    from training import data\n    import torch.nn as nn\n")
    assert list(imported(path)) == ["os.path", "training.data", "torch.nn"]
    assert lies_in("torch.nn", HEAVY)
    assert not lies_in("torchmetrics", HEAVY)


def test_imports_go_downwards() -> None:
    upward = [f"{one} -> {other}" for one in MODULES for other in IMPORTS[one] if is_upward(one, other)]
    assert sorted(upward) == []


def test_the_order_sees_what_goes_upwards() -> None:
    assert is_upward("service.scheduling.caller", "service.models.model")
    assert is_upward("service.middleware.body", "service.detection.decision")
    assert is_upward("service.inference.backends.base", "service.inference.anomalymoe")
    assert not is_upward("service.inference.anomalymoe", "service.inference.backends.base")
    assert not is_upward("service.inference.anomalymoe", "export.contract.bundle")


def test_neither_files_nor_folders_import_each_other_in_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"d"}}) == ["a", "b", "c"]
    assert circle(IMPORTS) == []
    assert circle(folders()) == []


def test_every_module_of_ours_is_imported_or_run() -> None:
    entries = {"service.cli.__main__", "training.cli.__main__", "export.cli"}
    unused = MODULES - set().union(*IMPORTS.values()) - entries
    assert unused == set()


@pytest.mark.parametrize("folder", ONLY)
def test_a_folder_that_stands_alone_knows_nothing_else(folder: str) -> None:
    modules = [module for module in MODULES if lies_in(module, (folder,))]
    assert modules
    known = {other for module in modules for other in IMPORTS[module]}
    assert [other for other in sorted(known) if not lies_in(other, ONLY[folder])] == []


@pytest.mark.parametrize("library", RESERVED)
def test_a_library_is_known_in_few_places(library: str) -> None:
    users = [
        module
        for module in MODULES
        if lies_in(module, ("service",))
        and any(lies_in(name, (library,)) for name in imported(FILES[module]))
    ]
    assert users
    assert [module for module in sorted(users) if not lies_in(module, RESERVED[library])] == []


def test_a_folder_holds_few_files() -> None:
    counts = {path.parent: len(list(path.parent.glob("*.py"))) for path in FILES.values()}
    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_every_package_of_ours_has_rules() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert found == {package.split(".")[0] for package in ALLOWED} == set(OURS) == set(ORDER)


def test_init_files_hold_a_docstring_and_nothing_else() -> None:
    for path in FILES.values():
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree), path
            assert len(tree.body) == 1, path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("service.app", (*HEAVY, "training")),
        ("service.run", (*HEAVY, "training", "opentelemetry.sdk")),
        ("service.cli.commands", (*HEAVY, "training")),
        ("anomoe_client", (*HEAVY, *OURS, "onnxruntime", "fastapi", "numpy")),
        ("export.contract.bundle", (*HEAVY, "training")),
        ("export.cli", HEAVY),
    ],
)
def test_importing_leaves_out_what_is_heavy(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = result.stdout.split()
    assert module in loaded
    assert [name for name in loaded if lies_in(name, absent)] == []
