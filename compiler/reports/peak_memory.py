"""How much memory loading and running a model takes."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """The growth of the process's resident memory from now on; mapped files count as far as they are read."""

    def __init__(self) -> None:
        # Where this fails, the peak includes what the process had used and freed before.
        with contextlib.suppress(OSError):
            _CLEAR_REFS.write_text(_RESET_PEAK)  # proc(5): resets the peak to what is resident now
        self._before = _resident("VmRSS")

    def bytes(self) -> int:
        """The most that was resident at once, less what was resident at the start."""
        return max(0, _resident("VmHWM") - self._before)


def _resident(entry: str) -> int:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    (line,) = (line for line in lines if line.startswith(f"{entry}:"))
    return int(line.split()[1]) << 10
