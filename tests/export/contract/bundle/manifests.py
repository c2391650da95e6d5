"""A manifest that is changed after it was written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
