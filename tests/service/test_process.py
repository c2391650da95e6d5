"""How many cores the process may use, whatever has limited them."""

import os
import platform
from pathlib import Path

import pytest

from service.process import give_back_free_memory, usable_cores
from tests.service.inference.backends.test_onnx import resident_bytes

V1 = "12:cpuset:{0}\n4:cpu,cpuacct:{0}\n1:name=systemd:/other\n"
HYBRID = "4:cpu:/a\n0::/b\n"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1, 2, 3}, raising=False)


def cores(root: Path, groups: str | None, files: dict[str, str]) -> int:
    """What is usable where `/proc/self/cgroup` has these lines and `/sys/fs/cgroup` these files."""
    written = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    if groups is not None:
        written["proc/self/cgroup"] = groups
    for name, text in written.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return usable_cores(root)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("150000 100000", 2),
        ("20000 100000", 1),
        ("800000 100000", 4),
        ("max 100000", 4),
        ("1 0", 4),
        ("", 4),
        (None, 4),
    ],
)
@pytest.mark.parametrize("groups", ["0::/\n", None], ids=["own", "no proc"])
def test_the_quota_of_a_group_counts(
    tmp_path: Path, groups: str | None, limit: str | None, expected: int
) -> None:
    assert cores(tmp_path, groups, {} if limit is None else {"cpu.max": limit}) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/b/cpu.max": "50000 100000"}, 1),
        ({"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ({"a/cpu.max": "100000 100000", "a/b/cpu.max": "300000 100000"}, 1),
        ({"cpu.max": "300000 100000", "a/cpu.max": "max 100000"}, 3),
        ({"a/c/cpu.max": "50000 100000", "b/cpu.max": "50000 100000"}, 4),
    ],
    ids=["own", "parent", "least of both", "root", "of others"],
)
def test_the_least_quota_of_nested_groups_counts(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert cores(tmp_path, "0::/a/b\n", files) == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("50000", "100000", 1), ("300000", "100000", 3), ("-1", "100000", 4), ("", "", 4)],
)
@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu", "cpu,cpuacct/docker", "cpu/docker/1"])
def test_version_1_has_quota_and_period_apart(
    tmp_path: Path, folder: str, quota: str, period: str, expected: int
) -> None:
    """Also where the container's own group is mounted as the uppermost one."""
    files = {f"{folder}/{QUOTA}": f"{quota}\n", f"{folder}/{PERIOD}": f"{period}\n"}
    assert cores(tmp_path, V1.format("/docker/1"), files) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({f"cpu/a/{QUOTA}": "100000", f"cpu/a/{PERIOD}": "50000"}, 2),
        ({f"cpu/b/{QUOTA}": "100000", f"cpu/b/{PERIOD}": "50000"}, 4),
        ({"unified/b/cpu.max": "100000 100000"}, 1),
    ],
)
def test_each_hierarchy_has_its_own_paths(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert cores(tmp_path, HYBRID, files) == expected


def test_lines_of_no_known_form_are_passed_over(tmp_path: Path) -> None:
    assert cores(tmp_path, "\nnonsense\n0::/../outside\n", {"cpu.max": "100000 100000"}) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process")
def test_affinity_is_the_most_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores(tmp_path, "0::/\n", {"cpu.max": "900000 100000"}) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
def test_what_is_free_between_blocks_in_use_goes_back() -> None:
    blocks = [bytes(2**16) for _ in range(2000)]
    last = blocks[-1]
    blocks.clear()
    kept = resident_bytes()
    give_back_free_memory()
    assert resident_bytes() < kept - 2000 * 2**15
    assert len(last) == 2**16
