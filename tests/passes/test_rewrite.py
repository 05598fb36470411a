"""The frame of call-rewriting passes: rules by operator, from the inputs on."""

from __future__ import annotations

import tvm
from tvm import ir, relax
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.rewrite import CallRewriter, count_uses, rewrite_calls
from tests.passes.module_summary import operators


@I.ir_module
class Chain:
    @R.function
    def main(x: R.Tensor((4,), "float32")):
        with R.dataflow():
            a = R.exp(x)
            b = R.nn.relu(a)
            c = R.nn.relu(b)
            d = R.add(a, c)
            r = (d,)
            R.output(r)
        return r


def negate(_rewriter: CallRewriter, call: ir.Call) -> relax.Expr:
    return relax.op.negative(call.args[0])


def without_double_relu(rewriter: CallRewriter, call: ir.Call) -> relax.Expr | None:
    return rewriter.defining_call(call.args[0], "relax.nn.relu")


def test_a_rule_replaces_the_calls_of_its_operator() -> None:
    assert operators(rewrite_calls(Chain, {"relax.nn.relu": negate})) == [
        "exp",
        "negative",
        "negative",
        "add",
    ]


def test_a_rule_that_declines_leaves_the_call() -> None:
    rewritten = rewrite_calls(Chain, {"relax.nn.relu": lambda _rewriter, _call: None})
    tvm.ir.assert_structural_equal(rewritten, Chain)


def test_a_rule_sees_what_defines_an_operand_and_dead_bindings_go() -> None:
    assert operators(rewrite_calls(Chain, {"relax.nn.relu": without_double_relu})) == [
        "exp",
        "nn.relu",
        "add",
    ]


def test_a_rule_may_be_kept_from_operands_with_other_readers() -> None:
    rewritten = rewrite_calls(Chain, {"relax.nn.relu": negate}, absorb_single_use=True)
    assert operators(rewritten) == ["exp", "nn.relu", "negative", "add"]


def test_every_reading_of_a_variable_counts() -> None:
    @I.ir_module
    class Readers:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                a = R.exp(x)
                b = R.add(a, a)
                c = R.concat((a, b), axis=0)
                r = (c, b)
                R.output(r)
            return r

    module: tvm.IRModule = Readers
    uses = {variable.name: count for variable, count in count_uses(module["main"]).items()}
    assert [uses[name] for name in "xabc"] == [1, 3, 2, 1]
