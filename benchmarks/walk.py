"""The way of one picture through our code: python -m benchmarks.walk [--calls].

Counts one `/detect` of a service that is warm, in all of its threads: files visited, calls into our code, and
how often the next call is into another file than the one before. Of several pictures the median one is told:
threads do not always meet in the same order.
"""

import argparse
import os
import signal
import sys
import threading
from collections import Counter
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Any

from benchmarks.processes import PICTURE, ROOT, free_port
from service.run import run
from service.settings import Settings

OURS = tuple(f"{ROOT / package}{os.sep}" for package in ("service", "export"))
WARM = 20  # pictures before those that are counted
COUNTED = 9
SETTLED_S = 0.2  # after an answer, its request is over by then


class Walk:
    """Notes every call into our code while it `is_counting`, in order: file and function."""

    def __init__(self) -> None:
        self.is_counting = False
        self.calls: list[tuple[str, str]] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """What the interpreter calls as a profiler."""
        code = frame.f_code
        if self.is_counting and event == "call" and code.co_filename.startswith(OURS):
            self.calls.append((str(Path(code.co_filename).relative_to(ROOT)), code.co_name))

    def report(self, has_calls: bool) -> str:
        """The figures, with the calls by file; has_calls: and each of them, in order."""
        files = Counter(file for file, _ in self.calls)
        changes = sum(file != following for (file, _), (following, _) in pairwise(self.calls))
        lines = [f"files {len(files)}, calls {len(self.calls)}, changes of file {changes}", ""]
        lines += [f"{count:4} {file}" for file, count in files.most_common()]
        return "\n".join([*lines, "", *(f"{file} {name}" for file, name in self.calls if has_calls)])


def ask_one(walk: Walk, port: int, body: bytes) -> None:
    """Warm the service, let some pictures be counted, keep the median one, and end the process."""
    try:
        connection = connected(port)
        walks: list[list[tuple[str, str]]] = []
        for walk.is_counting in [False] * WARM + [True] * COUNTED:
            walk.calls = []
            connection.request("POST", "/detect", body, {"Content-Type": "image/png"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"/detect answered {answer.status}: {text.decode()}")
            sleep(SETTLED_S)
            walks.append(walk.calls)
        walk.is_counting = False
        walk.calls = sorted(walks[-COUNTED:], key=len)[COUNTED // 2]
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def connected(port: int) -> HTTPConnection:
    """A connection to the service, once it listens."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    while True:
        try:
            connection.connect()
            return connection
        except ConnectionRefusedError:
            sleep(0.05)


def main() -> None:
    """Serve the demo in this process and print how one of its pictures went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", action="store_true", help="each call, too")
    options = parser.parse_args()
    walk, port = Walk(), free_port()
    threading.Thread(target=ask_one, args=(walk, port, PICTURE.read_bytes()), daemon=True).start()
    threading.setprofile(walk)  # of the threads that the service starts
    sys.setprofile(walk)
    run(Settings(port=port, bundles="bundles/demo", log_level="warning", tune_s=0))
    sys.setprofile(None)
    print(walk.report(options.calls))


if __name__ == "__main__":
    main()
