"""What the process asks of the system."""

import ctypes
import gc
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

if sys.platform != "win32":
    import resource

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as in glibc's malloc.h
LARGE_BYTES = 8 * 2**20


def give_back_large_blocks() -> None:
    """Let glibc map each block of `LARGE_BYTES` or more by itself; other C libraries stay as they are.

    By default the first such block that is freed raises that limit to its own size, up to 32 MiB. From then
    on the heaps of the threads keep what large pictures took: gigabytes after a few dozen of them. Once it
    is set, it no longer raises the other limit, from which a heap is cut; at that one's 128 KiB each picture
    would pay for new pages.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(M_TRIM_THRESHOLD, 2 * LARGE_BYTES)  # twice the other one, as glibc itself has it


def give_back_free_memory() -> None:
    """Let glibc give what is free within its heaps back to the system, too; others stay as they are."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def allow_many_connections() -> None:
    """Let as many files and connections be open as the system allows; it begins with a thousand or so."""
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):  # macOS says "unlimited", and takes less
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def usable_cores(root: Path = Path("/")) -> int:
    """The CPU cores this process may use: its affinity, which cpusets narrow, and its control groups' quotas.

    root: where `proc` and `sys` are.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *map(_quota, _control_groups(root))])))


def _control_groups(root: Path) -> Iterator[Path]:
    """Where quotas of the process may be: its groups and all above them, of version 2 and of version 1.

    A container may see its own group as the uppermost one, though its process has the path of the host.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ["0::/"]
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        mounts = [mounted, mounted / "unified"]
        if controllers:
            mounts = [mounted / controllers, mounted / "cpu"] if "cpu" in controllers.split(",") else []
        group = PurePosixPath(path.strip("/"))
        yield from (mount / level for mount in mounts for level in (group, *group.parents))


def _quota(group: Path) -> float:
    """The cores that the quota of one control group is worth; infinite without one."""
    try:
        if (limit := group / "cpu.max").exists():
            quota, period = limit.read_text(encoding="utf-8").split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((group / name).read_text(encoding="utf-8") for name in names)
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def release_memory() -> None:
    """Find what only itself refers to, as a model's stages do, and give back what is free in the heaps."""
    gc.collect()
    give_back_free_memory()
