"""Sharing work out among devices that come and go."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..runtime.errors import RelaxcError
from .job_queue import Job, JobQueue
from .measurement import BuiltKernel, Measurement

LOG = logging.getLogger("relaxc.devices")

# How often it is looked for devices that are new, or have come back.
_LOOK_SECONDS = 1.0
# A device that is still there so long after it was dropped has only been held up.
_REST_SECONDS = 20.0


class DeviceLostError(RelaxcError):
    """The device died or fell silent while it measured. Perhaps what it measured is to blame."""


class DeviceUnusableError(RelaxcError):
    """The device will never run the code, whatever the candidate."""


class Device(Hashable, Protocol):
    """Measures on one machine, one group at a time. One that has been lost and comes back is another one."""

    def run(self, kernels: Sequence[BuiltKernel]) -> list[Measurement]:
        """Times ``kernels`` against each other.

        Raises:
            DeviceLostError: see there.
            DeviceUnusableError: see there.
            RelaxcError: the device cannot be reached now.
        """


@dataclass
class DevicePool:
    """Has all devices work at once. One that fails is dropped, and its group is measured by another.

    Attributes:
        find: the devices that there are now; may raise RelaxcError, if it is not known for the moment.
        advice: what a user should do where there is no device.
        patience: seconds to wait for a device when there is none.
    """

    find: Callable[[], Iterable[Device]]
    advice: str
    patience: float = 60.0
    _dropped_until: dict[Device, float] = field(default_factory=dict)
    _busy: set[Device] = field(default_factory=set)
    _problem: str = ""

    def run(self, groups: Sequence[Sequence[BuiltKernel]]) -> list[list[Measurement]]:
        """The measurements of each group. A group that two devices were lost over has failed.

        Raises:
            RelaxcError: there was no device for ``patience`` seconds.
        """
        jobs = [Job(kernels) for kernels in groups]
        queue = JobQueue(jobs)
        deadline = time.monotonic() + self.patience
        while not queue.wait_done(0):
            self._employ_new_devices(queue)
            if self._busy:
                deadline = time.monotonic() + self.patience
            elif time.monotonic() > deadline and not queue.wait_done(0):
                problem = f" ({self._problem})" if self._problem else ""
                raise RelaxcError(f"no device for {self.patience:g} s{problem}: {self.advice}")
            queue.wait_done(_LOOK_SECONDS)
        return [job.measurements or [] for job in jobs]

    def _employ_new_devices(self, queue: JobQueue) -> None:
        try:
            found = set(self.find())
        except RelaxcError as error:
            self._problem = str(error)  # the devices that are at work do not need to be found
            return
        now = time.monotonic()
        for device in found - self._busy:
            if self._dropped_until.get(device, now) > now:
                continue
            self._busy.add(device)
            threading.Thread(target=self._employ, args=(device, queue), daemon=True).start()

    def _employ(self, device: Device, queue: JobQueue) -> None:
        """Has the device work until there is nothing left to do, or the device is lost."""
        try:
            while (job := queue.take()) is not None:
                if not self._carry_out(job, device, queue):
                    return
        finally:
            self._busy.discard(device)

    def _carry_out(self, job: Job, device: Device, queue: JobQueue) -> bool:
        """Whether the device can go on."""
        try:
            queue.finish(job, device.run(job.kernels))
        except DeviceLostError as error:
            self._drop(device, error)
            queue.blame(job, str(error))
        except RelaxcError as error:
            self._drop(device, error)
            queue.give_back(job)
        except Exception as error:  # it would be waited for for ever
            self._drop(device, RelaxcError(f"{type(error).__name__}: {error}"))
            queue.blame(job, str(error))
        else:
            return True
        return False

    def _drop(self, device: Device, error: RelaxcError) -> None:
        rest = math.inf if isinstance(error, DeviceUnusableError) else _REST_SECONDS
        self._dropped_until[device] = time.monotonic() + rest
        self._problem = str(error)
        LOG.warning("dropped a device: %s", error)
