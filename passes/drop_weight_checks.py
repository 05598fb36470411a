"""Removes the run-time checks of weights, which TVM makes of every parameter in every call.

Weights come from the artifact, whose contents are checked when it is loaded, and never from a caller. The
same holds for the tensors of the workspace.
"""

from __future__ import annotations

import tvm
from tvm import ir, relax

from .lift_constants import INPUTS, MAIN

_CHECKS = ("vm.builtin.check_tensor_info", "vm.builtin.match_shape")


def drop_weight_checks() -> tvm.transform.Pass:
    """The pass, to be run after ``VMShapeLower``."""

    def run(mod: tvm.IRModule, _context: object) -> tvm.IRModule:
        main = next((f for v, f in mod.functions_items() if v.name_hint == MAIN), None)
        if main is None or not main.attrs or INPUTS not in main.attrs:
            return mod
        result = tvm.IRModule(dict(mod.functions), attrs=mod.attrs)
        result.update_func(mod.get_global_var(MAIN), _without_checks(main, int(main.attrs[INPUTS])))
        return result

    return tvm.transform.module_pass(run, opt_level=0, name="DropWeightChecks")


def _without_checks(main: relax.Function, inputs: int) -> relax.Function:
    weights = set(list(main.params)[inputs:])

    def needed(binding: relax.Binding) -> bool:
        value = binding.value
        return not (
            isinstance(value, ir.Call)
            and isinstance(value.op, relax.ExternFunc)
            and value.op.global_symbol in _CHECKS
            and value.args[0] in weights
        )

    blocks = [relax.BindingBlock(list(filter(needed, block.bindings))) for block in main.body.blocks]
    body = relax.SeqExpr(blocks, main.body.body)
    return relax.Function(main.params, body, main.ret_ty, main.is_pure, attrs=main.attrs)
