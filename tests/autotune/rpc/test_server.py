"""A server with real kernels, some of which do not behave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tvm import ir, te, tirx

from relaxc.autotune.isolated_run import run_isolated
from relaxc.autotune.measurement import Candidate, RunOptions, Status
from relaxc.autotune.rpc.channel import Address
from relaxc.autotune.rpc.identity import Identity
from relaxc.autotune.rpc.rpc_measurer import RpcMeasurer
from relaxc.autotune.rpc.server import Server, ServerOptions
from relaxc.autotune.rpc.tracker import Tracker
from relaxc.targets.cpu.machine import required_features
from relaxc.targets.registry import CpuTarget

OPTIONS = RunOptions(threads=1, repetitions=(6, 8), max_seconds=0.1)


def kernel(compute: Callable[[tirx.Expr], tirx.Expr]) -> str:
    """A function of 64 elements as JSON."""
    x = te.placeholder((64,), name="x")
    y = te.compute((64,), lambda i: compute(x[i]), name="y")
    text: str = ir.save_json(te.create_prim_func([x, y]))
    return text


def calling(function: str) -> str:
    """A kernel that calls a function of the C library for each element."""
    return kernel(lambda x: x + tirx.call_extern("int32", function).astype("float32"))


@pytest.fixture
def measurer(tracker: Tracker, identity: Identity, native: CpuTarget) -> Iterator[RpcMeasurer]:
    """Of one server."""
    options = ServerOptions("board", Address("127.0.0.1", 0))
    server = Server(options, identity, run_isolated)
    server.register_with(tracker.address)
    yield RpcMeasurer(tracker.address, "board", identity, OPTIONS, required_features(native.machine))
    server.stop()


def test_what_a_candidate_does_is_its_own_affair(measurer: RpcMeasurer, native: CpuTarget) -> None:
    """One measures the same as locally, one crashes, one hangs, one is wrong; then the server goes on."""
    good = Candidate(kernel(lambda x: x * 2.0), None, native)
    crashing, hanging = replace(good, kernel=calling("abort")), replace(good, kernel=calling("pause"))
    wrong = replace(good, kernel=kernel(lambda x: x * 3.0))
    impatient = replace(measurer, options=replace(OPTIONS, time_limit=2))
    results = measurer.measure([[good, good], [good, crashing]])
    results += impatient.measure([[good, hanging]])
    results += measurer.measure([[good, wrong], [good]])
    assert [row[-1].status for row in results] == [
        Status.OK,
        Status.RUN_ERROR,
        Status.TIMEOUT,
        Status.WRONG_RESULT,
        Status.OK,
    ]
    assert "SIGABRT" in results[1][1].message
    assert len(results[0][0].seconds) == len(results[0][1].seconds) >= 6
    assert results[0][1].build_seconds > 0
