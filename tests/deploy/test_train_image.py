"""The image of the target train makes a bundle from pictures, hardened as that of the target cpu."""

import os

import pytest

from tests.deploy.podman import ROOT, build, podman, prepare
from tests.deploy.test_images import HARDENED

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(
        "SOAK_IMAGES" not in os.environ,
        reason="takes 20 minutes and 20 GB, with torch for GPUs; SOAK_IMAGES=1 runs it",
    ),
]
IMAGE = "localhost/anomoe-train:latest"
UNLIMITED = [option for option in HARDENED if not option.startswith("--memory")]
WORK = """
anomoe-train demo-data data --train 6 --test-good 2 --test-defect 1
anomoe-train fit --data data/board --output rehearsal --config /docs/rehearsal.json
echo '{"train": {"steps": 2, "batch_size": 2}}' > two-steps.json
anomoe-train fit --data data/board --output default --config two-steps.json
anomoe-export build default bundle
anomoe-export verify bundle --checkpoint default --data data/board
"""


def test_it_fits_and_exports() -> None:
    prepare()
    build(ROOT, IMAGE, "--target", "train")
    options = [
        *UNLIMITED,
        "--user",
        "23456:0",
        "--volume",
        "training:/state",
        "--tmpfs",
        "/tmp",
        "--network=none",
    ]
    try:
        command = ["sh", "-euc", WORK]
        podman("run", "--rm", *options, "--volume", f"{ROOT}/docs:/docs:ro", IMAGE, *command)
    finally:
        podman("volume", "rm", "--force", "training")
        podman("rmi", "--force", IMAGE)
