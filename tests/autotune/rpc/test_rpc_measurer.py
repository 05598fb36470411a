"""Sharing groups out among devices that may die."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock, Thread, Timer
from typing import Any, cast

import pytest

from relaxc.autotune.isolated_builder import BuiltGroup, IsolatedBuilder
from relaxc.autotune.measurement import (
    ArgumentSpec,
    BuiltKernel,
    Candidate,
    Group,
    Measurement,
    RunOptions,
    Status,
)
from relaxc.autotune.rpc.channel import Address
from relaxc.autotune.rpc.identity import Identity
from relaxc.autotune.rpc.rpc_measurer import RpcMeasurer
from relaxc.autotune.rpc.server import Server, ServerOptions
from relaxc.autotune.rpc.tracker import Tracker
from relaxc.errors import RelaxcError

OPTIONS = RunOptions(threads=1)
LOCAL = Address("127.0.0.1", 0)


@dataclass
class OrderBuilder(IsolatedBuilder):
    """Candidates are orders for ``obedient_server.py``; the order ``unbuildable`` cannot be built."""

    def build(self, groups: Sequence[Group]) -> list[BuiltGroup]:
        return [tuple(self._order(candidate.kernel) for candidate in group) for group in groups]

    def _order(self, order: str) -> BuiltKernel | Measurement:
        if order == "unbuildable":
            return Measurement(Status.BUILD_ERROR, message="build: no")
        return BuiltKernel(order.encode(), (ArgumentSpec((2, 3), "float32"),), 0.5)


def group(*orders: str) -> list[Candidate]:
    return [Candidate(order, None, cast(Any, None)) for order in orders]


@pytest.fixture
def measurer(tracker: Tracker, identity: Identity) -> RpcMeasurer:
    return RpcMeasurer(tracker.address, "board", identity, OPTIONS, builder=OrderBuilder())


def test_results_come_in_order(measurer: RpcMeasurer, servers: Any) -> None:
    servers.start()
    results = measurer.measure([group("1", "2"), group("3", "unbuildable", "4"), group("unbuildable", "5")])
    assert [[m.seconds for m in row] for row in results] == [[(1,), (2,)], [(3,), (), (4,)], [(), ()]]
    assert results[0][0].build_seconds == 0
    assert [m.status for m in results[2]] == [Status.BUILD_ERROR] * 2
    assert "nothing to compare with" in results[2][1].message


def test_all_devices_of_the_key_work_at_once(measurer: RpcMeasurer, servers: Any, tmp_path: Path) -> None:
    for key in ("board", "board", "phone"):
        servers.start(key)
    results = measurer.measure([group(f"meet {tmp_path}")] * 8)  # the first one ends when a second one begins
    assert all(row[0].ok for row in results)
    assert len({row[0].device for row in results}) == 2


def test_a_device_that_is_killed_is_replaced_by_the_other(measurer: RpcMeasurer, servers: Any) -> None:
    victim = servers.start()
    servers.start()
    Timer(0.7, victim.kill).start()
    results = measurer.measure([group("sleep", str(i)) for i in range(10)])
    assert [row[1].seconds for row in results] == [(i,) for i in range(10)]


def test_a_device_that_falls_silent_is_dropped(
    measurer: RpcMeasurer, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relaxc.autotune.rpc.channel.Channel.receive.__defaults__", (3.0,))
    servers.start()
    servers.start()
    results = measurer.measure([group("freeze"), *(group(str(i)) for i in range(6))])
    assert all(row[0].ok for row in results[1:])


def test_a_group_that_kills_takes_two_devices_and_no_more(measurer: RpcMeasurer, servers: Any) -> None:
    for _ in range(3):
        servers.start()
    results = measurer.measure([group("1", "die"), *(group("sleep") for _ in range(6))])
    assert all(row[0].ok for row in results[1:])
    assert [m.status for m in results[0]] == [Status.RUN_ERROR] * 2
    assert "2 devices were lost over it" in results[0][1].message
    assert measurer.measure([group("7")])[0][0].seconds == (7,)


def test_the_last_device_meets_a_suspect_after_all_others(measurer: RpcMeasurer, servers: Any) -> None:
    servers.start()
    servers.start()
    results = measurer.measure([group("die"), *(group("sleep") for _ in range(6))])
    assert [row[0].ok for row in results] == [False] + [True] * 6


def test_a_device_that_comes_back_is_used_again(
    measurer: RpcMeasurer, servers: Any, tracker: Tracker, wait_until: Callable[..., None]
) -> None:
    servers.start()
    Timer(1.0, servers.start).start()
    results = measurer.measure([group("die"), group("8")])
    assert results[1][0].seconds == (8,)


def test_without_devices_it_says_what_to_do(measurer: RpcMeasurer, servers: Any) -> None:
    measurer = replace(measurer, patience=1)
    servers.start("phone")
    with pytest.raises(RelaxcError, match=r"start one with relaxc rpc server --key board"):
        measurer.measure([group("1")])


def test_a_device_that_cannot_run_the_code_is_dropped(measurer: RpcMeasurer, servers: Any) -> None:
    measurer = replace(measurer, patience=1, cpu_features=("sse2", "time_travel"))
    servers.start()
    with pytest.raises(RelaxcError, match="its processor lacks time_travel"):
        measurer.measure([group("1")])


def test_a_server_measures_for_one_client_at_a_time(tracker: Tracker, identity: Identity) -> None:
    busy, overlaps = Lock(), []

    def run(kernels: Sequence[BuiltKernel], options: RunOptions) -> list[Measurement]:
        overlaps.append(not busy.acquire(blocking=False))
        time.sleep(0.05)
        busy.release()
        return [Measurement(Status.OK, (1.0,))] * len(kernels)

    server = Server(ServerOptions("board", LOCAL), identity, run)
    server.register_with(tracker.address)
    measurers = [
        RpcMeasurer(tracker.address, "board", identity, OPTIONS, builder=OrderBuilder()) for _ in range(3)
    ]
    threads = [Thread(target=measurer.measure, args=([group("1")] * 4,)) for measurer in measurers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    assert overlaps == [False] * 12


def test_a_server_sets_a_limit_to_the_time_that_is_asked_for(tracker: Tracker, identity: Identity) -> None:
    limits = []

    def run(kernels: Sequence[BuiltKernel], options: RunOptions) -> list[Measurement]:
        limits.append(options.time_limit)
        return [Measurement(Status.OK, (1.0,))] * len(kernels)

    server = Server(ServerOptions("board", LOCAL, time_limit=3), identity, run)
    server.register_with(tracker.address)
    for wanted in (1.0, 1000.0):
        RpcMeasurer(
            tracker.address,
            "board",
            identity,
            RunOptions(threads=1, time_limit=wanted),
            builder=OrderBuilder(),
        ).measure([group("1")])
    server.stop()
    assert limits == [1, 3]
