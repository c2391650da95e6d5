"""A run of a few steps without anything random, as one of the processes of torchrun."""

import sys
from pathlib import Path

from tests.training.moeclip.tiny import UNCHANGED, tiny_backbone, tiny_config
from tests.training.tiny_run import quiet_progress
from training.distributed import process_group
from training.moeclip.fit import fit

WEIGHTS = {"etf_weight": 1.0, "balance_weight": 1.0}
MOE = {"rank": 4, "alpha": 8.0, "dropout": 0.0}
CONFIG = tiny_config({"moe": MOE}, steps=3, augment=UNCHANGED, **WEIGHTS)
SETTINGS = (CONFIG, tiny_backbone())

if __name__ == "__main__":
    with process_group():
        fit(Path(sys.argv[1]), Path(sys.argv[2]), *SETTINGS, quiet_progress())
