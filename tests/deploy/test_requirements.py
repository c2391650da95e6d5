"""What the images install is what the project asks for, in the versions of constraints.txt, by hash."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.podman import ROOT

IMAGE = {"python_version": "3.11", "python_full_version": "3.11.14", "sys_platform": "linux", "extra": ""}
EXTRAS = {"cpu": ["cpu"], "gpu": ["gpu"], "train": ["cpu", "train", "pretrained", "export"]}


def locked(target: str) -> dict[str, str]:
    """Versions by name; each has a hash."""
    text = (ROOT / f"docker/requirements/{target}.txt").read_text(encoding="utf-8")
    entries = re.findall(
        r"^([a-z0-9.-]+)==(\S+)(?: ;[^\\]*)? \\\n +--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE
    )
    assert len(entries) == len(re.findall(r"^\S", text, re.MULTILINE))
    return dict(entries)


def constrained() -> dict[str, str]:
    """Versions by name, for the Python of the images."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wanted = [one for one in map(Requirement, lines) if not one.marker or one.marker.evaluate(IMAGE)]
    return {one.name: str(one.specifier).removeprefix("==") for one in wanted}


@pytest.mark.parametrize("target", EXTRAS)
def test_it_has_what_the_project_asks_for(target: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = (project["optional-dependencies"][extra] for extra in EXTRAS[target])
    versions = locked(target)
    for one in map(Requirement, [*project["dependencies"], *(text for extra in extras for text in extra)]):
        assert versions[canonicalize_name(one.name)] in one.specifier, one


@pytest.mark.parametrize("target", EXTRAS)
def test_versions_are_those_that_were_tested(target: str) -> None:
    tested, versions = constrained(), locked(target)
    differing = {name for name in set(tested) & set(versions) if versions[name] != tested[name]}
    assert differing == set(), "make lock"
    if target == "cpu":
        assert set(versions) <= set(tested)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_serving_has_no_torch(target: str) -> None:
    assert not {name for name in locked(target) if name.startswith("torch")}
