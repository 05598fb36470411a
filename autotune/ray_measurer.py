"""Building and measuring on a Ray cluster.

Builds take one of Ray's CPUs each, wherever there is one. A measurement takes all CPUs of its node, so
nothing that Ray knows of runs beside it: no build, no other measurement, nobody else's task. Ray's CPUs are
numbers in a ledger, and several nodes may share a machine (in tests they do), so measurements claim the real
ones besides (``cpu_claims.py``).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..runtime.errors import RelaxcError
from ..runtime.processor import missing_features
from .built_groups import measure_built
from .device_pool import DeviceLostError, DevicePool, DeviceUnusableError
from .isolated_builder import IsolatedBuilder
from .isolated_run import run_isolated
from .measurement import BuiltKernel, Candidate, Group, Measurement, RunOptions

_CONNECT_SECONDS = 5
_ADVICE = "see the nodes with `ray status`, then tune again"


@dataclass
class RayMeasurer:
    """Shares builds and groups out among the nodes of a cluster (``DevicePool``). The nodes must be alike.

    Attributes:
        address: of the cluster; ``auto`` finds the one that this machine belongs to.
        options: how groups are timed.
        cpu_features: those that the target's code needs, named as in ``/proc/cpuinfo``.
        patience: seconds to wait for a node when there is none.
    """

    address: str
    options: RunOptions
    cpu_features: tuple[str, ...] = ()
    patience: float = 60.0
    builder: IsolatedBuilder = field(default_factory=lambda: RayBuilder())

    def __post_init__(self) -> None:
        connect_to_cluster(self.address)
        self._pool = DevicePool(self._nodes, _ADVICE, self.patience)

    def measure(self, groups: Sequence[Group]) -> list[list[Measurement]]:
        """See ``Measurer``. Raises RelaxcError: there was no node for ``patience`` seconds."""
        return measure_built(self.builder.build(groups), self._pool.run)

    def close(self) -> None:
        """Leaves the cluster."""
        import ray

        ray.shutdown()

    def _nodes(self) -> list[RayNode]:
        return [
            RayNode(node, cpus, self.options, self.cpu_features)
            for node, cpus in node_cores().items()
            if cpus >= self.options.threads
        ]


class RayBuilder(IsolatedBuilder):
    """Builds each candidate as a task of Ray's, which runs it again elsewhere if a node dies."""

    def outcomes(self, candidates: Sequence[Candidate]) -> list[BuiltKernel | Measurement]:
        """See ``IsolatedBuilder``. Raises RelaxcError: the cluster cannot build anything."""
        import ray

        build = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_build)
        try:
            return list(ray.get([build.remote(candidate, self.limit) for candidate in candidates]))
        except ray.exceptions.RayError as error:
            raise RelaxcError(f"the Ray cluster cannot build: {_last_line(error)}") from error


@dataclass(frozen=True)
class RayNode:
    """A machine of the cluster."""

    node: str
    cpus: int
    options: RunOptions
    cpu_features: tuple[str, ...]

    def run(self, kernels: Sequence[BuiltKernel]) -> list[Measurement]:
        """See ``Device``."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.node, soft=False)
        task = ray.remote(num_cpus=self.cpus, max_retries=0, scheduling_strategy=here)(_measure)
        try:
            answer: list[Measurement] | str = ray.get(task.remote(kernels, self.options, self.cpu_features))
        except (ray.exceptions.RayTaskError, ray.exceptions.TaskUnschedulableError) as error:
            raise DeviceUnusableError(f"node {self.node[:8]}: {_last_line(error)}") from error
        except ray.exceptions.RayError as error:
            raise DeviceLostError(f"node {self.node[:8]}: {_last_line(error)}") from error
        if isinstance(answer, str):
            raise DeviceUnusableError(f"node {self.node[:8]}: {answer}")
        return answer


def connect_to_cluster(address: str) -> None:
    """Becomes a client of a cluster that exists.

    Raises:
        RelaxcError: Ray is not installed here, or there is no cluster at ``address``.
    """
    try:
        import ray
    except ImportError as error:
        raise RelaxcError("--ray needs Ray: pip install 'relaxc[ray]'") from error
    try:
        _check_that_somebody_listens(address)
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise RelaxcError(f"no Ray cluster at {address}: {_last_line(error)}") from error


def _check_that_somebody_listens(address: str) -> None:
    """Ray itself tries for minutes. What has no port names a cluster in another way (``auto``)."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()


def node_cores() -> dict[str, int]:
    """How many CPUs each node that is alive has, by the node's identifier; those without any are left out."""
    import ray

    return {
        node["NodeID"]: int(node["Resources"]["CPU"])
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    }


def _build(candidate: Candidate, limit: float) -> BuiltKernel | Measurement:
    """Runs on a node."""
    ((outcome,),) = IsolatedBuilder(limit, at_once=1).build([[candidate]])
    return outcome


def _measure(
    kernels: Sequence[BuiltKernel], options: RunOptions, cpu_features: Sequence[str]
) -> list[Measurement] | str:
    """Runs on a node; returns the reason if the node cannot run the code."""
    if missing := missing_features(cpu_features):
        return f"its processor lacks {', '.join(missing)}"
    return run_isolated(kernels, options)


def _last_line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
