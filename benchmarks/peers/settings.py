"""What a peer is started with: its adapter's choice, unless the environment says otherwise."""

import os
from dataclasses import dataclass

from benchmarks.processes import ROOT

CORES = len(os.sched_getaffinity(0))
BUNDLE = ROOT / "bundles" / "demo"
WAIT_S = 0.005  # how long a batch waits to become full, where the peer asks


@dataclass(frozen=True)
class Settings:
    """Worker processes, largest batch (1: no batching), threads of each run of the engine (0: all cores)."""

    workers: int
    max_batch: int
    threads: int

    @classmethod
    def chosen(cls, **choice: int) -> "Settings":
        """A choice, less what PEER_WORKERS, PEER_MAX_BATCH and PEER_THREADS say."""
        return cls(
            **{name: int(os.environ.get(f"PEER_{name.upper()}", value)) for name, value in choice.items()}
        )
