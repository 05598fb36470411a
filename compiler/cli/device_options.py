"""Where ``relaxc tune`` measures: on this machine, on devices that a tracker knows, or on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from ...runtime.errors import RelaxcError

if TYPE_CHECKING:
    from ...autotune.measurement import Measurer, RunOptions
    from ...autotune.rpc.channel import Address
    from ...autotune.rpc.identity import Identity
    from ...autotune.session import Limits
    from ...targets.registry import CpuTarget

RpcTrackerOption = Annotated[
    str | None,
    typer.Option(help="Measure on devices that this tracker knows (relaxc rpc).", metavar="HOST:PORT"),
]
RpcKeyOption = Annotated[str | None, typer.Option(help="The key of the devices to measure on.")]
SecretFileOption = Annotated[
    Path | None,
    typer.Option(help="The file with the secret of --rpc-tracker; by default $RELAXC_RPC_SECRET."),
]
RayOption = Annotated[
    str | None,
    typer.Option(help="Build and measure on this Ray cluster; auto finds one.", metavar="ADDRESS"),
]


class Devices(Protocol):
    """A place to measure."""

    def threads(self) -> int:
        """As many as every device of the place can run at once."""

    def measurer(self, options: RunOptions, target: CpuTarget) -> Measurer:
        """What measures there."""

    def limits(self, threads: int) -> Limits | None:
        """What so many threads can do at most, where that can be measured."""


@dataclass(frozen=True)
class ThisMachine:
    """Measures here."""

    def threads(self) -> int:
        """See ``Devices``."""
        from ...runtime.processor import default_threads

        return default_threads()

    def measurer(self, options: RunOptions, target: CpuTarget) -> Measurer:
        """See ``Devices``."""
        from ...autotune.local_measurer import LocalMeasurer

        return LocalMeasurer(options)

    def limits(self, threads: int) -> Limits | None:
        """See ``Devices``."""
        from ...autotune.session import Limits
        from ...targets.cpu.ceilings import measure_ceilings

        ceilings = measure_ceilings(threads)
        return Limits(ceilings.gflops, ceilings.gbytes)


@dataclass(frozen=True)
class RpcDevices:
    """Measures on servers of one key."""

    tracker: Address
    key: str
    identity: Identity

    def threads(self) -> int:
        """See ``Devices``. Raises RelaxcError: there are no devices."""
        from ...autotune.rpc.tracker import registrations

        devices = registrations(self.tracker, self.identity, self.key)
        if not devices:
            raise RelaxcError(
                f"the tracker at {self.tracker} knows no device of key {self.key!r}: "
                f"start one with relaxc rpc server, or see what there is with relaxc rpc query"
            )
        return min(device.cores for device in devices)

    def measurer(self, options: RunOptions, target: CpuTarget) -> Measurer:
        """See ``Devices``."""
        from ...autotune.rpc.rpc_measurer import RpcMeasurer
        from ...targets.cpu.machine import required_features

        return RpcMeasurer(self.tracker, self.key, self.identity, options, required_features(target.machine))

    def limits(self, threads: int) -> Limits | None:
        """See ``Devices``. Nothing is known of machines elsewhere."""
        return None


@dataclass(frozen=True)
class RayCluster:
    """Builds and measures on the nodes of a Ray cluster."""

    address: str

    def threads(self) -> int:
        """See ``Devices``."""
        from ...autotune.ray_measurer import connect_to_cluster, node_cores

        connect_to_cluster(self.address)
        return min(node_cores().values())

    def measurer(self, options: RunOptions, target: CpuTarget) -> Measurer:
        """See ``Devices``."""
        from ...autotune.ray_measurer import RayMeasurer
        from ...targets.cpu.machine import required_features

        return RayMeasurer(self.address, options, required_features(target.machine))

    def limits(self, threads: int) -> Limits | None:
        """See ``Devices``. Nothing is known of machines elsewhere."""
        return None


def devices(
    rpc_tracker: str | None, rpc_key: str | None, secret_file: Path | None, ray: str | None
) -> Devices:
    """What the options say. Raises RelaxcError where they contradict each other."""
    if rpc_tracker is not None and ray is not None:
        raise RelaxcError("--rpc-tracker and --ray are two places to measure: choose one")
    if ray is not None:
        return RayCluster(ray)
    if rpc_tracker is None and rpc_key is None:
        return ThisMachine()
    if rpc_tracker is None or rpc_key is None:
        raise RelaxcError("--rpc-tracker and --rpc-key belong together: give both, or neither")
    from ...autotune.rpc.channel import Address
    from ...autotune.rpc.identity import identity_of
    from ...autotune.rpc.secret import read_secret

    return RpcDevices(Address.parse(rpc_tracker), rpc_key, identity_of(read_secret(secret_file)))
