"""What the process asks of the system."""

import ctypes
import sys
from contextlib import suppress

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
