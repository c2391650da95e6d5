"""The dashboards' generator is a script: its folder is no package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "docker" / "grafana"))
