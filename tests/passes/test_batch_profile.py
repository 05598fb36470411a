"""What a cost model is told of a run: bytes of the whole batch, kernel by kernel."""

from __future__ import annotations

import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.batch_profile import Step, profile
from relaxc.passes.batch_runs import Operators, find_runs
from tests.passes.module_summary import normal

WEIGHT, BIAS = normal(8, 8, 3, 3), normal(1, 8, 1, 1)
MAP = 2 * 8 * 4 * 4 * 4
"""Bytes of a feature map."""


def steps(module: tvm.IRModule) -> tuple[Step, ...]:
    """Of the first run of ``module``."""
    block = module["main"].body.blocks[0]
    return next(profile(p).steps for p in find_runs(list(block.bindings)) if isinstance(p, Operators))


def test_element_wise_operators_belong_to_the_kernel_in_front() -> None:
    @I.ir_module
    class Fused:
        @R.function
        def main(x: R.Tensor((2, 8, 4, 4), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WEIGHT), padding=(1, 1))
                b = R.add(a, R.const(BIAS))
                c = R.nn.relu(b)
                d = R.nn.conv2d(c, R.const(WEIGHT), padding=(1, 1))
                e = R.add(d, c)
                r = (e,)
                R.output(r)
            return r

    assert steps(Fused) == (
        Step(traffic=2 * MAP, weights=WEIGHT.nbytes, border=0, ends=MAP),
        Step(traffic=0, weights=BIAS.nbytes, border=2 * MAP, ends=0),  # written and read for nothing
        Step(traffic=0, weights=0, border=2 * MAP, ends=0),
        Step(traffic=3 * MAP, weights=WEIGHT.nbytes, border=MAP, ends=0),  # reads c twice
        Step(traffic=0, weights=0, border=3 * MAP, ends=MAP),
    )


def test_parts_of_a_tuple_are_not_parted_from_it_and_views_move_nothing() -> None:
    @I.ir_module
    class Parts:
        @R.function
        def main(x: R.Tensor((2, 8, 4, 4), "float32")):
            with R.dataflow():
                a = R.split(x, 2, axis=1)
                b = a[0]
                c = R.reshape(b, (2, 64))
                d = R.exp(c)
                r = (d,)
                R.output(r)
            return r

    half = MAP // 2
    assert steps(Parts) == (
        Step(traffic=2 * MAP, weights=0, border=0, ends=MAP),
        Step(traffic=0, weights=0, border=None, ends=0),
        Step(traffic=0, weights=0, border=half, ends=0),
        Step(traffic=0, weights=0, border=2 * half, ends=half),
    )


def test_types_decide_how_many_bytes_an_element_has() -> None:
    @I.ir_module
    class Narrow:
        @R.function
        def main(x: R.Tensor((2, 8, 4, 4), "float32")):
            with R.dataflow():
                a = R.astype(x, "bfloat16")
                R.output(a)
            return a

    assert steps(Narrow) == (Step(traffic=MAP + MAP // 2, weights=0, border=0, ends=MAP + MAP // 2),)
