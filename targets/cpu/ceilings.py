"""The limits of the machine at hand, measured: how fast it multiplies and adds, and how fast it reads memory.

Profiles compare kernels with these (the roofline model), because a data sheet knows neither the clock under
load nor what a virtual machine gets of the memory's bandwidth.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from ...runtime.thread_pool import call_with_threads
from ..registry import CpuTarget, resolve

_ROUNDS = 15

# The arithmetic kernel keeps a tile of 4 x 3 vectors in registers: enough chains to hide the latency of an
# FMA, few enough for 16 registers. Its operands (14 kB at the widest) stay in the first-level cache.
_ROWS, _VECTORS, _DEPTH = 4, 3, 64
_REPEATS = 4000

# Larger than any cache that a process is likely to have to itself.
_STREAM_BYTES = 256 << 20
_CHAINS = 8


@dataclass(frozen=True)
class Ceilings:
    """Measured limits.

    Attributes:
        gflops: fp32 operations, two for each fused multiply-add, in 1e9 a second.
        gbytes: memory read, in 1e9 bytes a second.
    """

    gflops: float
    gbytes: float


@functools.cache
def measure_ceilings(threads: int) -> Ceilings:
    """Measures both with ``threads`` threads; takes about two seconds, once a process."""
    return call_with_threads(threads, _measure, resolve("native"), threads)


def _measure(target: CpuTarget, threads: int) -> Ceilings:
    lanes = target.machine.lanes("float32")
    flops = 2 * threads * _REPEATS * _DEPTH * _ROWS * _VECTORS * lanes
    steps = _STREAM_BYTES // (4 * threads * _CHAINS * lanes)
    read = 4 * threads * steps * _CHAINS * lanes
    return Ceilings(
        gflops=flops / _nanoseconds(_arithmetic(threads, lanes), target),
        gbytes=read / _nanoseconds(_stream(threads, steps, lanes), target),
    )


def _arithmetic(threads: int, lanes: int) -> tvm.tirx.PrimFunc:
    """The inner kernel of a matrix product, over and over: ``[threads, rows, vectors, lanes]``."""
    a = te.placeholder((_DEPTH, _ROWS), name="a")
    b = te.placeholder((_DEPTH, _VECTORS, lanes), name="b")
    axes = [te.reduce_axis((0, _REPEATS), "r"), te.reduce_axis((0, _DEPTH), "k")]
    sums = te.compute(
        (threads, _ROWS, _VECTORS, lanes),
        lambda t, m, n, lane: te.sum(a[axes[1], m] * b[axes[1], n, lane], axis=axes),
        name="sums",
    )
    return te.create_prim_func([a, b, sums])


def _stream(threads: int, steps: int, lanes: int) -> tvm.tirx.PrimFunc:
    """The sum of a large array in independent chains: ``[threads, chains, lanes]``."""
    x = te.placeholder((threads, steps, _CHAINS, lanes), name="x")
    k = te.reduce_axis((0, steps), "k")
    sums = te.compute(
        (threads, _CHAINS, lanes), lambda t, c, lane: te.sum(x[t, k, c, lane], axis=k), name="sums"
    )
    return te.create_prim_func([x, sums])


def _scheduled(kernel: tvm.tirx.PrimFunc) -> tvm.IRModule:
    """The first axis runs in parallel, the last is a vector, those between are unrolled: one chain of
    dependent operations in a register for each.
    """
    schedule = Schedule(kernel)
    sums = schedule.get_sblock("sums")
    result = schedule.cache_write(sums, 0, "local")
    thread, *inner = schedule.get_loops(sums)
    spatial = inner[: len(schedule.get(result).iter_vars) - 1]
    reduction = inner[len(spatial) :]
    schedule.parallel(thread)
    schedule.reverse_compute_at(result, thread)
    schedule.reorder(*reduction, *spatial)
    _unroll(schedule, spatial)
    start = schedule.decompose_reduction(sums, reduction[0])
    for block in (start, result):
        _unroll(schedule, schedule.get_loops(block)[1:])
    return schedule.mod


def _unroll(schedule: Schedule, loops: Sequence[LoopRV]) -> None:
    *chains, lane = loops
    schedule.vectorize(lane)
    for chain in chains:
        schedule.unroll(chain)


def _nanoseconds(kernel: tvm.tirx.PrimFunc, target: CpuTarget) -> int:
    """The time of the least disturbed of some calls: a ceiling is what can be reached, not the usual."""
    function = tvm.compile(_scheduled(kernel), target.tvm_target)["main"]
    shapes = [[int(extent) for extent in param.shape] for param in kernel.params]
    arrays = [tvm.runtime.tensor(np.ones(shape, np.float32)) for shape in shapes]
    function(*arrays)
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter_ns()
        function(*arrays)
        times.append(time.perf_counter_ns() - start)
    return min(times)
