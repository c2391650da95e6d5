"""Progress of long work: bars on a terminal; elsewhere, as under nohup, a line now and then."""

from datetime import timedelta
from time import monotonic, strftime
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 30.0


def progress_on(console: Console, *, is_shown: bool) -> Progress:
    """Counts, elapsed and remaining time, in the form that suits the console; nothing if not shown."""
    if not is_shown:
        return Progress(disable=True, console=console)
    if not console.is_terminal:
        return LineProgress(console)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


class LineProgress(Progress):
    """A line at most every `every_s` seconds, and one whenever a task is finished."""

    def __init__(self, console: Console, every_s: float = LINE_EVERY_S) -> None:
        super().__init__(console=console, auto_refresh=False, disable=True, get_time=monotonic)
        self.every_s = every_s
        self._last_line_s = self.get_time()
        self._finished: set[TaskID] = set()
        # When a task was first seen to move, and how far it was: a run that goes on does not start at 0.
        self._starts: dict[TaskID, tuple[float, float]] = {}

    def update(self, task_id: TaskID, *arguments: Any, **changes: Any) -> None:
        super().update(task_id, *arguments, **changes)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task, now_s = self._tasks[task_id], self.get_time()
        since_s, start = self._starts.setdefault(task_id, (now_s, task.completed))
        is_news = task.finished and task_id not in self._finished
        if task.total is None or not (is_news or now_s - self._last_line_s >= self.every_s):
            return
        self._last_line_s = now_s
        if task.finished:
            self._finished.add(task_id)
        line = f"{strftime('%H:%M:%S')} {task.description}: {task.completed:.0f} of {task.total:.0f}"
        if task.elapsed is not None:
            line += f", {_duration(task.elapsed)} elapsed"
        if task.completed > start:
            left_s = (task.total - task.completed) * (now_s - since_s) / (task.completed - start)
            line += f", {_duration(left_s)} left"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    """Days, hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))
