"""Weights are not checked in every call, inputs are."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import ir, relax
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.drop_weight_checks import drop_weight_checks
from relaxc.passes.lift_constants import lift_constants
from relaxc.passes.pipeline import lower_to_virtual_machine
from tests.passes.module_summary import normal

CHECKS = ("vm.builtin.check_tensor_info", "vm.builtin.match_shape")


@I.ir_module
class Sum:
    @R.function
    def main(x: R.Tensor((3,), "float32")):
        with R.dataflow():
            a = R.add(x, R.const(normal(3)))
            r = (a,)
            R.output(r)
        return r


def checked_parameters(mod: tvm.IRModule) -> set[str]:
    """The names of the parameters of ``main`` that some check reads."""
    names = set()

    def visit(expr: relax.Expr) -> None:
        called = expr.op if isinstance(expr, ir.Call) else None
        if isinstance(called, relax.ExternFunc) and called.global_symbol in CHECKS:
            names.add(expr.args[0].name)

    relax.analysis.post_order_visit(mod["main"], visit)
    return names


@pytest.fixture
def checking() -> tvm.IRModule:
    """The sum after TVM has put in its checks."""
    lifted = relax.transform.LegalizeOps()(lift_constants(Sum).module)
    steps = [relax.transform.CallTIRRewrite(), relax.transform.VMShapeLower()]
    return tvm.transform.Sequential([relax.transform.ToNonDataflow(), *steps])(lifted)


def test_only_inputs_are_checked(checking: tvm.IRModule) -> None:
    assert checked_parameters(checking) == {"x", "weight_0"}
    assert checked_parameters(drop_weight_checks()(checking)) == {"x"}


def test_a_module_whose_constants_were_not_lifted_stays() -> None:
    lowered = relax.transform.VMShapeLower()(relax.transform.ToNonDataflow()(Sum))
    tvm.ir.assert_structural_equal(drop_weight_checks()(lowered), lowered, map_free_vars=True)


def test_a_wrong_input_is_still_refused() -> None:
    lifted = lift_constants(Sum)
    module = lower_to_virtual_machine()(relax.transform.LegalizeOps()(lifted.module))
    machine = relax.VirtualMachine(relax.build(module, "llvm", relax_pipeline=None), tvm.cpu())
    weight = tvm.runtime.tensor(lifted.weights[0])
    with pytest.raises(Exception, match=r"match_cast|Mismatched|ErrorContext"):
        machine["main"](tvm.runtime.tensor(np.zeros(4, "float32")), weight)
