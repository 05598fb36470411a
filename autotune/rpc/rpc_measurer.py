"""Measuring on the devices that a tracker knows: built here, timed there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..built_groups import measure_built
from ..device_pool import DeviceLostError, DevicePool, DeviceUnusableError
from ..isolated_builder import IsolatedBuilder
from ..measurement import BuiltKernel, Group, Measurement, RunOptions
from .channel import Address, ConnectionLostError
from .connection import Role, connect
from .identity import Identity
from .requests import MEASURED, MeasureRequest, measurements_of
from .tracker import Registration, registrations


@dataclass
class RpcMeasurer:
    """Shares groups out among the devices of one key (``DevicePool``).

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

    def __post_init__(self) -> None:
        advice = (
            f"start one with relaxc rpc server --key {self.key} --tracker {self.tracker}, then tune again"
        )
        self._pool = DevicePool(self._devices, advice, self.patience)

    def measure(self, groups: Sequence[Group]) -> list[list[Measurement]]:
        """See ``Measurer``.

        Raises:
            RelaxcError: there was no device for ``patience`` seconds.
        """
        return measure_built(self.builder.build(groups), self._pool.run)

    def close(self) -> None:
        """Connections last for one group only: nothing is left."""

    def _devices(self) -> list[RpcDevice]:
        return [
            RpcDevice(registration, self.identity, self.options, self.cpu_features)
            for registration in registrations(self.tracker, self.identity, self.key)
        ]


@dataclass(frozen=True)
class RpcDevice:
    """A server, as the client sees it."""

    registration: Registration
    identity: Identity
    options: RunOptions
    cpu_features: tuple[str, ...]

    def run(self, kernels: Sequence[BuiltKernel]) -> list[Measurement]:
        """See ``Device``."""
        address = self.registration.address
        channel = connect(address, self.identity, Role.SERVER)
        request = MeasureRequest(tuple(kernels), self.options, self.cpu_features)
        try:
            with channel:
                answer = channel.request(request.message())
            if answer.kind == MEASURED:
                return measurements_of(answer, str(address), len(kernels))
        except ConnectionLostError as error:
            raise DeviceLostError(str(error)) from error
        raise DeviceUnusableError(f"{address} cannot be used: {answer.fields.get('reason')}")
