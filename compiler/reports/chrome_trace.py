"""Timed runs as a trace for chrome://tracing or Perfetto ("Trace Event Format", complete events)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .kernel_profile import KernelCall
from .latency import Run

_TIMED, _INSTRUMENTED = 1, 2


def chrome_trace(runs: Sequence[Run], kernels: Sequence[Sequence[KernelCall]]) -> dict[str, Any]:
    """A trace with one process of timed runs (a row for each stream) and one of instrumented runs."""
    origin = min([run.start for run in runs] + [call.start for calls in kernels for call in calls])
    events = [_process(_TIMED, "timed runs"), _process(_INSTRUMENTED, "instrumented run (slower)")]
    events += [
        _event("run", "run", run.start - origin, run.end - run.start, (_TIMED, run.stream)) for run in runs
    ]
    events += [
        _event(call.name, "kernel", call.start - origin, call.end - call.start, (_INSTRUMENTED, 0))
        | {"args": {"bytes": call.bytes_moved}}
        for calls in kernels
        for call in calls
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _event(name: str, category: str, start: int, duration: int, row: tuple[int, int]) -> dict[str, Any]:
    """A complete event; the format counts microseconds."""
    times = {"ts": start / 1e3, "dur": duration / 1e3}
    return {"name": name, "cat": category, "ph": "X", **times, "pid": row[0], "tid": row[1]}


def _process(number: int, name: str) -> dict[str, Any]:
    return {"name": "process_name", "ph": "M", "pid": number, "tid": 0, "args": {"name": name}}
