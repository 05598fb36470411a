"""The order of the graph passes, what may be left out, and the way to the virtual machine."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relaxc.passes.pipeline import forbid_aliasing, graph_passes
from tests.passes.module_summary import normal, operators, results

BLOCK = 8
WEIGHT, BIAS, DENSE = normal(16, 3, 3, 3), normal(1, 16, 1, 1, seed=1), normal(16, 5, seed=2)
OPTIONAL = [step.name for step in graph_passes(BLOCK) if not step.required]


@I.ir_module
class Network:
    @R.function
    def main(x: R.Tensor(("n", 3, "height", 8), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(WEIGHT), strides=(2, 1), padding=(1, 1))
            b = R.multiply(a, R.const(BIAS))
            c = R.add(b, R.const(BIAS))
            d = R.nn.relu(c)
            e = R.mean(d, axis=[2, 3], keepdims=False)
            f = R.matmul(e, R.const(DENSE))
            g = R.nn.softmax(f)
            r = (g,)
            R.output(r)
        return r


def after_passes(module: tvm.IRModule, without: str = "") -> tvm.IRModule:
    for step in graph_passes(BLOCK):
        if step.name != without:
            module = step.run(module)
    return module


def test_names_are_distinct_and_fit_a_command_line() -> None:
    names = [step.name for step in graph_passes(BLOCK)]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() and name.islower() for name in names)


def test_what_is_left_is_calls_of_kernels() -> None:
    module = after_passes(Network)
    kernels = {v.name_hint for v in module.get_global_vars()} - {"main"}
    assert set(operators(module)) <= kernels
    assert all(isinstance(module[name], tvm.tirx.PrimFunc) for name in kernels)


def test_bias_and_activation_are_part_of_the_convolution() -> None:
    first, *_ = operators(after_passes(Network))
    assert all(word in first for word in ("conv2d", "add", "relu"))
    assert "multiply" not in first  # it went into the weights


@pytest.mark.parametrize("name", OPTIONAL)
def test_each_optional_pass_may_be_left_out(name: str) -> None:
    x = normal(2, 3, 7, 8)
    np.testing.assert_allclose(
        results(after_passes(Network, without=name), x)[0], results(Network, x)[0], rtol=1e-4, atol=1e-5
    )


def test_every_kernel_is_told_that_its_buffers_are_distinct() -> None:
    @I.ir_module
    class Kernels:
        @T.prim_func(private=True, s_tir=True)
        def first(a: T.handle):
            T.func_attr({"tirx.noalias": False})
            T.evaluate(0)

        @T.prim_func(private=True, s_tir=True)
        def second(a: T.handle):
            T.evaluate(0)

    marked = forbid_aliasing()(Kernels)
    assert all(bool(marked[v].attrs["tirx.noalias"]) for v in marked.get_global_vars())
