"""Calls into our code are counted while they should be, in all threads, and no others."""

import json
import sys
import threading

from benchmarks.walk import Walk
from export.contract.decision import display_score
from service.scheduling.caller import Caller


def test_calls_into_our_code_are_counted_by_file_in_order() -> None:
    walk = Walk()

    def calls() -> None:
        display_score(1.0, 1.0)
        walk.is_counting = True
        Caller().check("it began", "body")
        json.dumps([])
        display_score(1.0, 1.0)
        walk.is_counting = False
        display_score(1.0, 1.0)

    before = sys.getprofile()
    threading.setprofile(walk)
    try:
        thread = threading.Thread(target=calls)
        thread.start()
        thread.join()
    finally:
        threading.setprofile(before)
    assert walk.calls == [
        ("service/scheduling/caller.py", "check"),
        ("service/scheduling/caller.py", "remaining_s"),
        ("export/contract/decision.py", "display_score"),
    ]
    report = walk.report(has_calls=True).splitlines()
    assert report[0] == "files 2, calls 3, changes of file 1"
    assert report[-1] == "export/contract/decision.py display_score"
