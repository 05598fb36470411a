"""Measuring on the devices that a tracker knows: built here, timed there."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...runtime.errors import RelaxcError
from ..built_groups import measure_built
from ..isolated_builder import IsolatedBuilder
from ..measurement import BuiltKernel, Group, Measurement, RunOptions
from .channel import Address, ConnectionLostError, RefusedError
from .connection import LOG, Role, connect
from .identity import Identity
from .job_queue import Job, JobQueue
from .requests import MEASURED, MeasureRequest, measurements_of
from .tracker import Device, devices_of

# How often the tracker is asked for devices that are new, or have come back.
_LOOK_SECONDS = 1.0


class DeviceUnfitError(RelaxcError):
    """A device cannot run code for the target."""


@dataclass
class RpcMeasurer:
    """Shares groups out among the devices of one key.

    A device that dies or falls silent is dropped, until it has registered anew. Its group is measured
    elsewhere; a group that two devices were lost over has failed.

    Attributes:
        tracker: where to ask for devices.
        key: which devices to use.
        identity: of the secret.
        options: how groups are timed.
        cpu_features: those that the target's code needs, named as in ``/proc/cpuinfo``.
        builder: makes the libraries.
        patience: seconds to wait for a device when there is none.
    """

    tracker: Address
    key: str
    identity: Identity
    options: RunOptions
    cpu_features: tuple[str, ...] = ()
    builder: IsolatedBuilder = field(default_factory=IsolatedBuilder)
    patience: float = 60.0
    _lost: set[Device] = field(default_factory=set)
    _busy: set[Device] = field(default_factory=set)
    _problem: str = ""

    def measure(self, groups: Sequence[Group]) -> list[list[Measurement]]:
        """See ``Measurer``.

        Raises:
            RelaxcError: there was no device for ``patience`` seconds.
        """
        return measure_built(self.builder.build(groups), self._run)

    def close(self) -> None:
        """Connections last for one group only: nothing is left."""

    def devices(self) -> list[Device]:
        """Those that can be used now. Raises RelaxcError if the tracker cannot be asked."""
        return [
            device for device in devices_of(self.tracker, self.identity, self.key) if device not in self._lost
        ]

    def _run(self, groups: Sequence[Sequence[BuiltKernel]]) -> list[list[Measurement]]:
        jobs = [Job(kernels) for kernels in groups]
        queue = JobQueue(jobs)
        deadline = time.monotonic() + self.patience
        while not queue.wait_done(0):
            self._employ_new_devices(queue)
            if self._busy:
                deadline = time.monotonic() + self.patience
            elif time.monotonic() > deadline and not queue.wait_done(0):
                raise self._no_devices()
            queue.wait_done(_LOOK_SECONDS)
        return [job.measurements or [] for job in jobs]

    def _employ_new_devices(self, queue: JobQueue) -> None:
        try:
            devices = self.devices()
        except RefusedError:
            raise
        except RelaxcError as error:
            self._problem = str(error)  # devices that we know do not need the tracker
            return
        for device in set(devices) - self._busy:
            self._busy.add(device)
            threading.Thread(target=self._employ, args=(device, queue), daemon=True).start()

    def _employ(self, device: Device, queue: JobQueue) -> None:
        """Has the device work until there is nothing left to do, or the device is lost."""
        try:
            while (job := queue.take()) is not None:
                if not self._carry_out(job, device, queue):
                    self._lost.add(device)
                    return
        finally:
            self._busy.discard(device)

    def _carry_out(self, job: Job, device: Device, queue: JobQueue) -> bool:
        """Whether the device can go on."""
        try:
            channel = connect(device.address, self.identity, Role.SERVER)
        except RelaxcError as error:
            self._drop(device, error)
            queue.give_back(job)
            return False
        request = MeasureRequest(tuple(job.kernels), self.options, self.cpu_features)
        try:
            with channel:
                answer = channel.request(request.message())
                if answer.kind != MEASURED:
                    raise DeviceUnfitError(str(answer.fields.get("reason")))
                measurements = measurements_of(answer, str(device.address), len(job.kernels))
        except DeviceUnfitError as error:
            self._drop(device, error)
            queue.give_back(job)
            return False
        except ConnectionLostError as error:
            self._drop(device, error)
            queue.blame(job, str(error))
            return False
        queue.finish(job, measurements)
        return True

    def _drop(self, device: Device, error: RelaxcError) -> None:
        self._problem = f"{device.address}: {error}"
        LOG.warning("dropped the device %s", self._problem)

    def _no_devices(self) -> RelaxcError:
        problem = f" ({self._problem})" if self._problem else ""
        return RelaxcError(
            f"no device of key {self.key!r} at the tracker {self.tracker} for {self.patience:g} s{problem}: "
            f"start one with `relaxc rpc server --key {self.key} --tracker {self.tracker}`, then tune again"
        )
