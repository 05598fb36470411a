"""Building and measuring on a Ray cluster of two nodes, both on this machine. Needs ``relaxc[ray]``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import pytest
from tvm import ir, te

from relaxc.autotune.measurement import BuiltKernel, Candidate, RunOptions, Status
from relaxc.autotune.ray_measurer import RayMeasurer, connect_to_cluster, node_cores
from relaxc.errors import RelaxcError
from relaxc.targets import registry

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'relaxc[ray]')")
pytestmark = pytest.mark.ray

OPTIONS = RunOptions(threads=1, max_seconds=0.05)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def measurer(cluster: Any) -> RayMeasurer:
    return RayMeasurer(cluster.address, OPTIONS, patience=5)


def default(extent: int) -> Candidate:
    x = te.placeholder((extent, 16), name="x")
    doubled = te.compute((extent, 16), lambda i, j: x[i, j] * 2.0, name="doubled")
    kernel = te.create_prim_func([x, doubled])
    return Candidate(ir.save_json(kernel), None, registry.resolve("native"))


def test_without_a_cluster_it_says_so() -> None:
    with pytest.raises(RelaxcError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        connect_to_cluster("127.0.0.1:1")


def test_every_node_builds_and_measures(measurer: RayMeasurer) -> None:
    results = measurer.measure([[default(extent), default(extent)] for extent in range(1, 9)])
    assert all(measurement.ok and measurement.seconds for row in results for measurement in row)


def test_what_cannot_be_built_is_recorded(measurer: RayMeasurer) -> None:
    nonsense = Candidate("no kernel", None, registry.resolve("native"))
    ((failed,), (right,)) = measurer.measure([[nonsense], [default(5)]])
    assert failed.status is Status.BUILD_ERROR
    assert right.ok


def test_a_node_measures_one_group_at_a_time(measurer: RayMeasurer, monkeypatch: pytest.MonkeyPatch) -> None:
    def when_and_where(*_: Any) -> Any:
        start = time.time()
        time.sleep(0.1)
        return start, time.time(), ray.get_runtime_context().get_node_id()

    monkeypatch.setattr("relaxc.autotune.ray_measurer._measure", when_and_where)
    by_node: dict[str, list[Any]] = {}
    for answer in measurer._pool.run([[BuiltKernel(b"", (), 0.0)] for _ in range(12)]):
        start, end, node = cast(Any, answer)
        by_node.setdefault(node, []).append((start, end))
    assert len(by_node) == 2, "both nodes take part"
    for spans in by_node.values():
        assert all(one[1] <= other[0] for one, other in pairwise(sorted(spans)))


def test_a_node_that_dies_is_replaced(cluster: Any, measurer: RayMeasurer) -> None:
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    assert len(node_cores()) == 3
    cluster.remove_node(node, allow_graceful=False)
    results = measurer.measure([[default(extent)] for extent in range(1, 7)])
    assert all(row[0].ok for row in results)


def test_nodes_that_cannot_run_the_code_are_not_used(cluster: Any) -> None:
    measurer = RayMeasurer(cluster.address, OPTIONS, ("time_travel",), patience=1)
    with pytest.raises(RelaxcError, match="its processor lacks time_travel"):
        measurer.measure([[default(3)]])
