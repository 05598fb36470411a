"""Groups on their way to devices. Those that a device died of are suspects, and come after all others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from .measurement import BuiltKernel, Measurement, Status

# A device may die by chance, so a group gets a second one, but never a third.
_MOST_DEATHS = 2


@dataclass
class Job:
    """A group to be measured.

    Attributes:
        kernels: what is to be timed.
        measurements: the result, None until there is one.
        deaths: how many devices were lost while they worked on it.
    """

    kernels: Sequence[BuiltKernel]
    measurements: list[Measurement] | None = None
    deaths: int = 0


class JobQueue:
    """Hands jobs to the threads of devices, each to one of them at a time."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = deque(jobs)
        self._suspects: deque[Job] = deque()
        self._in_progress = 0
        self._changed = threading.Condition()

    def take(self) -> Job | None:
        """The next job, as soon as there is one; None when all are done.

        A suspect is handed out only when nothing else is in progress: it may take one device down, not two.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._next_from() is not None or self._all_done())
            source = self._next_from()
            if source is None:
                return None
            self._in_progress += 1
            return source.popleft()

    def finish(self, job: Job, measurements: list[Measurement]) -> None:
        """The job is done."""
        with self._changed:
            job.measurements = measurements
            self._in_progress -= 1
            self._changed.notify_all()

    def give_back(self, job: Job) -> None:
        """The device cannot carry the job out, through no fault of the job's."""
        with self._changed:
            self._waiting.appendleft(job)
            self._in_progress -= 1
            self._changed.notify_all()

    def blame(self, job: Job, reason: str) -> None:
        """A device was lost while it worked on the job: another gets it, last of all, or it has failed."""
        job.deaths += 1
        if job.deaths < _MOST_DEATHS:
            with self._changed:
                self._suspects.append(job)
                self._in_progress -= 1
                self._changed.notify_all()
            return
        message = f"run: {job.deaths} devices were lost over it, lastly: {reason}"
        self.finish(
            job,
            [
                Measurement(Status.RUN_ERROR, message=message, build_seconds=kernel.build_seconds)
                for kernel in job.kernels
            ],
        )

    def wait_done(self, timeout: float) -> bool:
        """Whether all jobs are done, at once or within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(self._all_done, timeout)

    def _next_from(self) -> deque[Job] | None:
        if self._waiting:
            return self._waiting
        return self._suspects if self._suspects and not self._in_progress else None

    def _all_done(self) -> bool:
        return not (self._waiting or self._suspects or self._in_progress)
