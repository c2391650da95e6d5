"""Plain manifests for those without Helm: `python -m deploy.manifests` writes them anew from the chart."""

from pathlib import Path

import helm_python as helm

HERE = Path(__file__).parent
CHART = HERE / "helm/anomoe"
PLAIN = HERE / "kubernetes/anomoe.yaml"
VALUES = {"apiKeys": {"existingSecret": "anomoe-api-keys"}}
HEAD = """\
# Written by `make manifests` from the chart with its default values. First make the secret:
#   anomoe key line-7 --file api_keys && kubectl create secret generic anomoe-api-keys --from-file=api_keys
"""


def plain_manifests() -> str:
    """The objects of the chart, in one file."""
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(VALUES, name="anomoe")
    texts = (text.strip() for _, text in sorted(files.items()))
    return HEAD + "\n---\n".join(text for text in texts if text) + "\n"


if __name__ == "__main__":
    PLAIN.write_text(plain_manifests(), encoding="utf-8")
