"""What the entrypoint of the images makes of what is mounted, run outside of them."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.podman import ROOT

SCRIPT = (ROOT / "docker/entrypoint.sh").read_text(encoding="utf-8")


def served(folder: Path, **environment: str) -> dict[str, str]:
    """The settings that the command is started with, where `/bundles` and `/run/secrets` lie in a folder."""
    script = re.sub("(?<!/app)/bundles|/run/secrets", lambda path: f"{folder}/{Path(path[0]).name}", SCRIPT)
    (folder / "anomoe").write_text("#!/bin/sh\nenv; echo UMASK=$(umask)\n", encoding="utf-8")
    (folder / "anomoe").chmod(0o755)
    path = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", script], env={**path, **environment}, check=True, capture_output=True, text=True
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_with_nothing_mounted_the_demo_is_served(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    assert served(tmp_path)["ANOMOE_BUNDLES"] == "/app/bundles"


@pytest.mark.parametrize(
    "content", ["manifest.json", "tile/manifest.json", "tile/graphs/router.onnx", ".part"]
)
def test_what_is_mounted_is_served_or_refused_and_never_replaced_by_the_demo(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "bundles" / content
    file.parent.mkdir(parents=True)
    file.touch()
    assert served(tmp_path)["ANOMOE_BUNDLES"] == f"{tmp_path}/bundles"


def test_bundles_that_cannot_be_read_are_not_replaced_by_the_demo(tmp_path: Path) -> None:
    assert served(tmp_path)["ANOMOE_BUNDLES"] == f"{tmp_path}/bundles"


def test_settings_that_are_given_win(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/api_keys").touch()
    given = {"ANOMOE_BUNDLES": "/models", "ANOMOE_API_KEYS_FILE": "/keys"}
    assert given.items() <= served(tmp_path, **given).items()


def test_what_is_written_another_user_of_the_group_may_replace(tmp_path: Path) -> None:
    assert served(tmp_path)["UMASK"] == "0002"


@pytest.mark.parametrize("is_given", [True, False])
def test_keys_are_a_secret_and_not_its_absence(tmp_path: Path, is_given: bool) -> None:
    (tmp_path / "secrets").mkdir()
    secret = tmp_path / "secrets/api_keys"
    secret.touch() if is_given else secret.symlink_to("/dev/null")
    settings = served(tmp_path)
    assert settings.get("ANOMOE_API_KEYS_FILE") == (str(secret) if is_given else None)


def test_a_folder_in_place_of_keys_does_not_open_the_service(tmp_path: Path) -> None:
    (tmp_path / "secrets/api_keys").mkdir(parents=True)
    assert served(tmp_path)["ANOMOE_API_KEYS_FILE"] == str(tmp_path / "secrets/api_keys")
