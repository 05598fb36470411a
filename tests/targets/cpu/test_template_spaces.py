"""Every point of a template's space computes the same: awkward extents leave no point out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tvm
from tvm import relax, tirx
from tvm.s_tir import Schedule

from relaxc.passes.pipeline import graph_passes
from relaxc.targets.cpu import vector_math  # noqa: F401 - registers lowerings
from relaxc.targets.cpu.machine import Machine
from relaxc.targets.cpu.templates import TEMPLATES, Template
from relaxc.targets.registry import CpuTarget, resolve
from tests.targets.kernel_workloads import normal

POINTS = 8
"""How many points of a space are compiled, evenly spread over it, the first and the last among them."""


def kernel_of(operator: relax.Expr, shape: list[int], target: CpuTarget) -> tirx.PrimFunc:
    """The kernel of ``operator`` that holds its arithmetic, unscheduled."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(relax.Tuple([builder.emit(operator(x))]))
        builder.emit_func_output(result)
    module = builder.get()
    for step in graph_passes(target.machine.lanes("float32"), choose_chain=lambda _extents: True):
        module = step.run(module)
    functions = {v.name_hint: f for v, f in module.functions_items() if isinstance(f, tirx.PrimFunc)}
    (name,) = [
        name
        for name in functions
        if any(word in name for word in ("conv2d", "matmul", "attention", "transpose"))
    ]
    return functions[name]


def conv2d(x: relax.Expr) -> relax.Expr:
    weight, bias = (
        relax.const(normal(np.random.default_rng(0), 96, 17, 3, 2)),
        normal(np.random.default_rng(1), 96),
    )
    y = relax.op.nn.conv2d(x, weight, padding=(1, 1), strides=(1, 2))
    return relax.op.nn.relu(relax.op.add(y, relax.const(bias.reshape(1, 96, 1, 1))))


def depthwise_conv2d(x: relax.Expr) -> relax.Expr:
    return relax.op.nn.conv2d(
        x, relax.const(normal(np.random.default_rng(0), 17, 1, 3, 3)), padding=(1, 0), groups=17
    )


def separable_conv2d(x: relax.Expr) -> relax.Expr:
    op, generator = relax.op, np.random.default_rng(0)
    wide, depth, narrow = ((40, 24, 1, 1), (40, 1, 3, 3), (24, 40, 1, 1))
    y = op.nn.relu(op.nn.conv2d(x, relax.const(normal(generator, *wide))))
    y = op.nn.relu(op.nn.conv2d(y, relax.const(normal(generator, *depth)), padding=(1, 1), groups=40))
    return op.add(op.nn.conv2d(y, relax.const(normal(generator, *narrow))), x)


def matmul(x: relax.Expr) -> relax.Expr:
    return relax.op.nn.relu(relax.op.matmul(x, relax.const(normal(np.random.default_rng(0), 29, 90))))


def attention(x: relax.Expr) -> relax.Expr:
    """x [batch, rows, heads, features] with itself."""
    q, k, v = (relax.op.permute_dims(x, axes) for axes in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)))
    return relax.op.matmul(relax.op.nn.softmax(relax.op.matmul(q, k)), v)


def transpose(x: relax.Expr) -> relax.Expr:
    return relax.op.permute_dims(x, [0, 2, 1])


def spread(points: list[object]) -> Iterator[object]:
    count = min(POINTS, len(points))
    return (points[i * (len(points) - 1) // max(1, count - 1)] for i in range(count))


def result(kernel: tirx.PrimFunc, inputs: list[np.ndarray], target: CpuTarget) -> np.ndarray:
    function = tvm.compile(
        tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")}), target.tvm_target
    )
    output = tvm.runtime.tensor(np.full([int(e) for e in kernel.params[-1].shape], np.nan, np.float32))
    function["main"](*map(tvm.runtime.tensor, inputs), output)
    return np.asarray(output.numpy())


def schedule_for(kernel: tirx.PrimFunc) -> Schedule:
    schedule = Schedule(tvm.IRModule({"main": kernel}))
    schedule.work_on("main")
    return schedule


def template_of(kernel: tirx.PrimFunc) -> Template:
    return next(template for template in TEMPLATES if template.matches(schedule_for(kernel)) is not None)


CASES = [
    ("conv2d", conv2d, [1, 17, 8, 13]),
    ("depthwise_conv2d", depthwise_conv2d, [1, 17, 5, 13]),
    ("separable_conv2d", separable_conv2d, [1, 24, 6, 13]),
    ("matmul", matmul, [31, 29]),
    ("attention", attention, [2, 37, 3, 40]),
    ("transpose", transpose, [3, 52, 37]),
]


@pytest.mark.parametrize(("name", "operator", "shape"), CASES, ids=[case[0] for case in CASES])
def test_every_point_of_a_space_computes_the_same(name: str, operator: relax.Expr, shape: list[int]) -> None:
    target = resolve("native")
    kernel = kernel_of(operator, shape, target)
    template = template_of(kernel)
    assert template.name == name
    workload = template.matches(schedule_for(kernel))
    generator = np.random.default_rng(0)
    inputs = [normal(generator, *(int(e) for e in param.shape)) for param in kernel.params[:-1]]
    expected = result(kernel, inputs, target)
    for config in spread(list(template.space(workload, target.machine))):
        schedule = schedule_for(kernel)
        template.apply(schedule, workload, config)
        actual = result(schedule.mod["main"], inputs, target)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4, err_msg=str(config))


@pytest.mark.parametrize(("name", "operator", "shape"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_the_default_is_a_point_of_the_space(
    name: str, operator: relax.Expr, shape: list[int], target: str
) -> None:
    machine: Machine = resolve(target).machine
    kernel = kernel_of(operator, shape, resolve(target))
    template = template_of(kernel)
    workload = template.matches(schedule_for(kernel))
    points = list(template.space(workload, machine))
    assert template.default(workload, machine) in points
    assert len(points) == len(set(points)), name
