"""What a session shows while it runs: a live table on a terminal, a line a change elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .session import Session, TaskRow

# So many tasks fit a terminal; the others are summed up in a line.
_ROWS = 16
# Seconds between two lines where there is no terminal.
_QUIET_SECONDS = 5.0


@contextlib.contextmanager
def live_table() -> Iterator[Callable[[Session], None]]:
    """Gives a function that shows a session as it is now."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield lambda session: live.update(final_table(session, _ROWS))


class _Lines:
    """Prints a line every few seconds, and the first."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def __call__(self, session: Session) -> None:
        if time.monotonic() - self._last >= _QUIET_SECONDS:
            self._last = time.monotonic()
            print(summary(session), file=sys.stderr, flush=True)


def final_table(session: Session, limit: int | None = None) -> Table:
    """The tasks, the costliest first."""
    table = Table(
        box=None, pad_edge=False, header_style="bold", caption=summary(session), caption_justify="left"
    )
    table.add_column("kernel", overflow="ellipsis", no_wrap=True, max_width=44)
    for column in ("calls", "share", "trials", "failed", "default", "best", "GFLOP/s", "of ceiling", "gain"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in session.rows()[:limit]:
        table.add_row(*_cells(row))
    return table


def _cells(row: TaskRow) -> list[str]:
    return [
        row.state.task.name,
        str(row.state.task.calls),
        "" if row.share is None else f"{row.share:.1%}",
        str(len(row.state.gains)),
        str(sum(row.state.failures.values()) or ""),
        f"{row.default_seconds * 1e6:.1f} us",
        f"{row.seconds * 1e6:.1f} us",
        f"{row.gflops:.1f}",
        "" if row.of_ceiling is None else f"{row.of_ceiling:.0%}",
        f"{row.gain:.2f}x",
    ]


def summary(session: Session) -> str:
    """The session in a line."""
    rows = session.rows()
    before = sum(row.state.task.calls * row.default_seconds for row in rows)
    after = sum(row.state.task.calls * row.seconds for row in rows)
    gain = before / after if after else 1.0
    tuned = sum(row.gain > 1 for row in rows)
    return (
        f"{session.trials} trials, {tuned} of {len(session.states)} kernels tuned, together "
        f"{before * 1e3:.2f} -> {after * 1e3:.2f} ms ({gain:.2f}x){_time_left(session)}"
    )


def _time_left(session: Session) -> str:
    budget = session.options.budget
    parts = []
    if budget.seconds is not None:
        parts.append(f"{max(0.0, budget.seconds - session.elapsed):.0f} s left")
    if budget.trials is not None:
        parts.append(f"{max(0, budget.trials - session.trials)} trials left")
    return f", {', '.join(parts)}" if parts else ""
