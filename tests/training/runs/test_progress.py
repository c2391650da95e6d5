"""Progress where there is no terminal: lines with what is left, also of a run that goes on."""

from io import StringIO

import pytest
from rich.console import Console
from rich.progress import Progress

from training.runs import progress as progress_module
from training.runs.progress import LineProgress, progress_on


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test may move on."""
    now = [1000.0]
    monkeypatch.setattr(progress_module, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress_module, "strftime", lambda _: "12:00:00")
    return now


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def silent_console() -> Console:
    return Console(file=StringIO(), width=20)


def test_a_line_comes_after_some_time_and_says_what_is_left(clock: list[float]) -> None:
    console = silent_console()
    with LineProgress(console, every_s=30) as progress:
        task = progress.add_task("experts", total=100)
        for step in range(1, 9):
            progress.update(task, completed=step, description=f"experts, loss {step}")
            clock[0] += 10
    assert lines(console) == [
        "12:00:00 experts, loss 4: 4 of 100, 0:00:30 elapsed, 0:16:00 left",
        "12:00:00 experts, loss 7: 7 of 100, 0:01:00 elapsed, 0:15:30 left",
    ]


def test_a_run_that_goes_on_does_not_count_what_it_had(clock: list[float]) -> None:
    console = silent_console()
    progress = LineProgress(console, every_s=30)
    task = progress.add_task("experts", total=1000)
    for completed in (901, 903, 905):
        progress.update(task, completed=completed)
        clock[0] += 100
    assert [line.split(": ")[1] for line in lines(console)] == [
        "903 of 1000, 0:01:40 elapsed, 1:20:50 left",
        "905 of 1000, 0:03:20 elapsed, 1:19:10 left",
    ]


def test_a_finished_task_is_told_once(clock: list[float]) -> None:
    console = silent_console()
    progress = LineProgress(console)
    assert list(progress.track("abc", description="read")) == ["a", "b", "c"]
    for _ in range(2):
        progress.update(progress.task_ids[0], completed=3)
    assert [line.split(",")[0] for line in lines(console)] == ["12:00:00 read: 3 of 3"]


def test_each_console_gets_what_it_can_show() -> None:
    terminal = Console(file=StringIO(), force_terminal=True)
    assert type(progress_on(terminal, is_shown=True)) is Progress
    assert isinstance(progress_on(silent_console(), is_shown=True), LineProgress)
    for console in (terminal, silent_console()):
        assert not isinstance(progress_on(console, is_shown=False), LineProgress)
        assert progress_on(console, is_shown=False).disable
