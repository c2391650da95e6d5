"""Exit with 0 when the service in this container is ready."""

import os
import urllib.request

port = os.environ.get("ANOMOE_PORT", "8000")
urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=4)
