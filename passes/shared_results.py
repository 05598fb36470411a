"""Finds the results of ``main`` that later runs may read, so that a caller must get copies.

Branches and the bodies of loops are functions of their own. What such a function returns may be one of its
constants, which exists once for all runs.
"""

from __future__ import annotations

import tvm
from tvm import ir, relax

from .lift_constants import MAIN

_ALLOCATE = ir.Op.get("relax.builtin.alloc_tensor")
_VIEWS = (ir.Op.get("relax.reshape"), ir.Op.get("relax.memory.view"))


def shared_results(mod: tvm.IRModule) -> tuple[int, ...]:
    """The places of the results that ``main`` does not allocate. Its parameters are not among them.

    Args:
        mod: after ``lower_kernel_calls``: kernels take their results as arguments.
    """
    main = mod[MAIN]
    own = set(main.params)
    tuples: dict[relax.Var, relax.Tuple] = {}
    for block in main.body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, relax.Tuple):
                tuples[binding.var] = binding.value
            elif _is_allocation(binding.value) or _viewed(binding.value) in own:
                own.add(binding.var)

    def is_own(value: relax.Expr) -> bool:
        value = tuples.get(value, value)
        return all(map(is_own, value.fields)) if isinstance(value, relax.Tuple) else value in own

    results = tuples.get(main.body.body, main.body.body)
    fields = results.fields if isinstance(results, relax.Tuple) else [results]
    return tuple(place for place, result in enumerate(fields) if not is_own(result))


def _is_allocation(value: relax.Expr) -> bool:
    return isinstance(value, ir.Call) and value.op == _ALLOCATE


def _viewed(value: relax.Expr) -> relax.Expr:
    """What shares its memory with ``value``: its source, if it is a view, or a variable with another type."""
    return value.args[0] if isinstance(value, ir.Call) and value.op in _VIEWS else value
