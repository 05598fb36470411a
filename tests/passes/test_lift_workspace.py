"""Intermediate tensors of fixed shape become parameters of ``main`` that share memory."""

from __future__ import annotations

import tvm
from tvm import relax, topi
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relaxc.passes.lift_workspace import PlannedModule, lift_workspace
from relaxc.passes.pipeline import lower_kernel_calls
from relaxc.runtime.signature import PlacedTensor


def planned(mod: tvm.IRModule) -> PlannedModule:
    return lift_workspace(lower_kernel_calls()(mod))


def chain(*shape: object, steps: int = 4, dtype: str = "float32") -> tvm.IRModule:
    """A tensor goes through ``steps`` kernels; the last result is returned."""
    builder = relax.BlockBuilder()
    tensor = relax.Var("x", relax.TensorType(shape, dtype))
    with builder.function("main", [tensor]):
        for _ in range(steps):
            tensor = builder.emit_te(topi.negative, tensor)
        builder.emit_func_output(relax.Tuple([tensor]))
    return builder.get()


@I.ir_module
class Chain:
    @T.prim_func(private=True, s_tir=True)
    def step(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
        for i, j in T.grid(4, 8):
            with T.sblock("step"):
                vi, vj = T.axis.remap("SS", [i, j])
                y[vi, vj] = x[vi, vj] + T.float32(1)

    @R.function
    def main(x: R.Tensor((4, 8), "float32")):
        cls = Chain
        a = R.call_tir(cls.step, (x,), R.Tensor((4, 8), "float32"))
        b = R.call_tir(cls.step, (a,), R.Tensor((4, 8), "float32"))
        c = R.call_tir(cls.step, (b,), R.Tensor((4, 8), "float32"))
        d = R.reshape(c, (2, 16))
        return (d, x)


def test_allocations_and_their_views_become_parameters() -> None:
    @I.ir_module
    class Lifted:
        @T.prim_func(private=True, s_tir=True)
        def step(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
            for i, j in T.grid(4, 8):
                with T.sblock("step"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    y[vi, vj] = x[vi, vj] + T.float32(1)

        @R.function
        def main(
            x: R.Tensor((4, 8), "float32"),
            alloc: R.Tensor((4, 8), "float32"),
            alloc1: R.Tensor((4, 8), "float32"),
            alloc2: R.Tensor((4, 8), "float32"),
            d: R.Tensor((2, 16), "float32"),
        ):
            R.func_attr({"relax.force_pure": True, "relaxc.inputs": 1})
            cls = Lifted
            cls.step(x, alloc)
            cls.step(alloc, alloc1)
            cls.step(alloc1, alloc2)
            return (d, x)

    tvm.ir.assert_structural_equal(planned(Chain).module, Lifted)


def test_tensors_share_memory_when_they_are_not_in_use_together() -> None:
    first, second, third = (PlacedTensor(offset, (4, 8), "float32") for offset in (0, 128, 0))
    assert planned(Chain).workspace == (first, second, third, PlacedTensor(0, (2, 16), "float32"))


def test_a_small_result_lies_in_the_workspace_and_an_input_does_not() -> None:
    assert planned(Chain).results == (3, None)


def test_a_large_result_is_allocated_in_every_run() -> None:
    plan = planned(chain(512, 256))
    assert len(plan.workspace) == 3
    assert plan.results == (None,)


def test_every_offset_is_aligned() -> None:
    plan = planned(chain(3, 5))
    assert [place.offset for place in plan.workspace] == [0, 64, 0, 64]


def test_what_has_a_symbolic_extent_stays() -> None:
    lowered = lower_kernel_calls()(chain(tvm.tirx.Var("n", "int64"), 8))
    plan = lift_workspace(lowered)
    tvm.ir.assert_structural_equal(plan.module, lowered)
    assert (plan.workspace, plan.results) == ((), ())


def test_what_a_function_other_than_a_kernel_gets_stays() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 8), "float32"))
    with builder.function("main", [x]):
        kept = builder.emit_te(topi.negative, x)
        builder.emit(relax.call_pure_packed("keep", kept, ty_args=[relax.TensorType((4, 8), "float32")]))
        builder.emit_func_output(relax.Tuple([builder.emit_te(topi.negative, builder.emit_te(topi.exp, x))]))
    assert len(planned(builder.get()).workspace) == 2


def test_parts_of_a_tensor_lie_in_it() -> None:
    @I.ir_module
    class Parts:
        @T.prim_func(private=True, s_tir=True)
        def step(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
            for i, j in T.grid(4, 8):
                with T.sblock("step"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    y[vi, vj] = x[vi, vj] + T.float32(1)

        @R.function
        def main(x: R.Tensor((4, 8), "float32")):
            cls = Parts
            before = R.call_tir(cls.step, (x,), R.Tensor((4, 8), "float32"))
            whole = R.builtin.alloc_tensor(R.shape([3, 4, 8]), R.dtype("float32"), 0)
            part = R.memory.view(whole, R.shape([2, 4, 8]), R.dtype("float32"), 128)
            last = R.memory.view(part, R.shape([4, 8]), R.dtype("float32"), 128)
            after = R.call_tir(cls.step, (last,), R.Tensor((4, 8), "float32"))
            return (before, after)

    plan = planned(Parts)
    offsets = {place.shape: place.offset for place in plan.workspace[1:4]}
    assert offsets[2, 4, 8] == offsets[3, 4, 8] + 128
    assert offsets[4, 8] == offsets[3, 4, 8] + 256
    assert plan.results == (0, 4)


def test_the_results_of_a_kernel_that_has_several() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 8), "float32"))
    with builder.function("main", [x]):
        parts = builder.emit_te(topi.split, x, 2, 1)
        halves = [builder.emit(relax.TupleGetItem(parts, index)) for index in range(2)]
        total = builder.emit_te(topi.add, *halves)
        builder.emit_func_output(builder.emit(relax.Tuple([total, halves[1]])))
    plan = planned(builder.get())
    assert len({place.offset for place in plan.workspace}) == 3
    assert plan.results == (2, 1)


def test_tensors_inside_the_branches_of_an_if_share_memory_and_its_results_stay() -> None:
    @I.ir_module
    class Branches:
        @T.prim_func(private=True, s_tir=True)
        def step(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
            for i, j in T.grid(4, 8):
                with T.sblock("step"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    y[vi, vj] = x[vi, vj] + T.float32(1)

        @R.function
        def main(x: R.Tensor((4, 8), "float32"), which: R.Tensor((), "bool")):
            cls = Branches
            before = R.call_tir(cls.step, (x,), R.Tensor((4, 8), "float32"))
            if which:
                a = R.call_tir(cls.step, (before,), R.Tensor((4, 8), "float32"))
                chosen = R.call_tir(cls.step, (a,), R.Tensor((4, 8), "float32"))
            else:
                b = R.call_tir(cls.step, (before,), R.Tensor((4, 8), "float32"))
                chosen = R.call_tir(cls.step, (b,), R.Tensor((4, 8), "float32"))
            after = R.call_tir(cls.step, (chosen,), R.Tensor((4, 8), "float32"))
            return (after,)

    plan = planned(Branches)
    assert [place.offset for place in plan.workspace] == [0, 128, 128, 0]
    assert plan.results == (3,)
