"""Makes TVM order the scalar parameters of new kernels in the same way in every process.

Importing this module changes ``BlockBuilder.call_te``. Else kernels that differ in nothing but that order
would be told apart, and named, by chance.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tvm import ir, tirx
from tvm.relax import block_builder

from ..passes.parameter_order import parameter_order, with_parameter_order

Generated = tuple[tirx.PrimFunc, list[ir.Expr], Any]
Generator = Callable[..., Generated]


def ordered(generate: Generator) -> Generator:
    """``generate``, a function like TVM's ``gen_call_tir_inputs``, with its kernels' parameters in order."""

    @functools.wraps(generate)
    def wrapper(*args: Any, **kwargs: Any) -> Generated:
        kernel, operands, result_type = generate(*args, **kwargs)
        order = parameter_order(kernel)
        # Results are the last parameters, and no operands.
        operands = [operands[place] for place in order[: len(operands)]]
        return with_parameter_order(kernel, order), operands, result_type

    return wrapper


block_builder.gen_call_tir_inputs = ordered(block_builder.gen_call_tir_inputs)
