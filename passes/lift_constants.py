"""Turns the tensor constants of ``main`` into parameters, so that the weights travel beside the code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import ir, relax

from .constants import constant_value

MAIN = "main"
INPUTS = "relaxc.inputs"
"""The attribute of ``main`` that says how many of its parameters are inputs. The others are the same in every
run: weights, and tensors of the workspace."""


@dataclass(frozen=True)
class LiftedModule:
    """A module whose ``main`` takes ``weights``, in order, after its own inputs."""

    module: tvm.IRModule
    weights: tuple[np.ndarray, ...]


def lift_constants(mod: tvm.IRModule) -> LiftedModule:
    """Every distinct constant of ``main`` becomes one parameter."""
    lifter = _Lifter(mod)
    main = mod[MAIN]
    body = lifter.visit_expr(main.body)
    params = [*main.params, *lifter.params.values()]
    attrs = dict(main.attrs) if main.attrs else {}
    if lifter.weights:
        attrs[INPUTS] = len(main.params)
    lifted = relax.Function(
        params, body, main.ret_ty, main.is_pure, attrs=ir.make_node("ir.DictAttrs", **attrs)
    )
    module = tvm.IRModule(dict(mod.functions), attrs=mod.attrs)
    module.update_func(module.get_global_var(MAIN), lifted)
    return LiftedModule(module, tuple(lifter.weights))


@relax.expr_functor.mutator
class _Lifter(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.params: dict[tuple[str, tuple[int, ...], bytes], relax.Var] = {}
        self.weights: list[np.ndarray] = []

    def visit_generic_const_(self, const: ir.GenericConst) -> relax.Expr:
        value = constant_value(const)
        return const if value is None else self._parameter(value)

    def _parameter(self, value: np.ndarray) -> relax.Var:
        key = (value.dtype.name, value.shape, value.tobytes())
        if key not in self.params:
            ty = relax.TensorType(value.shape, value.dtype.name)
            self.params[key] = relax.Var(f"weight_{len(self.weights)}", ty)
            self.weights.append(value)
        return self.params[key]
