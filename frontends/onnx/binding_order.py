"""Keeps bindings that define symbolic dimensions before all that speak of these dimensions.

TVM's fusion orders the bindings of a dataflow block by the tensors that they read and overlooks dimensions.
So a cast that defines new ones stands outside, between two dataflow blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import tvm
from tvm import relax
from tvm.ir import Var


def to_dataflow(module: tvm.IRModule) -> tvm.IRModule:
    """Puts pure bindings into dataflow blocks; casts that define new dimensions stay between these."""
    functions = {s: f for s, f in module.functions_items() if isinstance(f, relax.Function)}
    if not any(_defines_later(function) for function in functions.values()):
        return relax.transform.ConvertToDataflow(min_size=1)(module)
    for symbol, function in functions.items():
        if isinstance(function.body, relax.SeqExpr):
            body = relax.SeqExpr(_split_blocks(function), function.body.body)
            module.update_func(symbol, _with_body(function, body))
    # What no other block reads becomes local to its own, which is what lets it be fused.
    return relax.transform.CanonicalizeBindings()(module)


def _defines_later(function: relax.Function) -> bool:
    """Whether some cast defines dimensions that the parameters do not have."""
    return any(True for _ in _definitions(function))


def _definitions(function: relax.Function) -> Iterator[relax.Binding]:
    known = _mentioned([parameter.ty for parameter in function.params])
    for block in getattr(function.body, "blocks", ()):
        for binding in block.bindings:
            if isinstance(binding, relax.MatchCast):
                new = _mentioned([binding.var.ty]) - known
                known |= new
                if new:
                    yield binding


def _split_blocks(function: relax.Function) -> list[relax.BindingBlock]:
    apart = {binding.var for binding in _definitions(function)}
    parts: list[relax.BindingBlock] = []
    for block in function.body.blocks:
        run: list[relax.Binding] = []
        for binding in block.bindings:
            if binding.var in apart or isinstance(getattr(binding, "value", None), relax.If):
                parts += [relax.DataflowBlock(run), relax.BindingBlock([binding])]
                run = []
            else:
                run.append(binding)
        parts.append(relax.DataflowBlock(run))
    return [part for part in parts if len(part.bindings)]


def _mentioned(types: list[object]) -> set[Var]:
    found: set[Var] = set()
    for ty in types:
        found.update(
            relax.analysis.defined_symbolic_vars(relax.Function([relax.Var("x", ty)], relax.Tuple([])))
        )
    return found


def _with_body(function: relax.Function, body: relax.Expr) -> relax.Function:
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)
