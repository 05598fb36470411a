"""What may leave the range of a narrow type: float16 ends at 65504, bfloat16 where float32 does.

A sum of two values that are computed (a residual), a product of two that may both be large, powers, e^x,
quotients: such results of operators on float16 stay in float32. A bound on values is followed through the
graph where an operator sets one, so that x * sigmoid(x) is known to be no larger than x.
"""

from __future__ import annotations

import numpy as np
from tvm import ir, relax

from .constants import constant_value
from .operator_name import operator_name
from .tensor_types import element_type

LARGEST = {"float16": 65504.0, "bfloat16": 3.3895314e38}
MOST_GROWTH = 8.0
"""The factor by which an operator may enlarge values: numbers up to 8188 have that much room."""


class NarrowRange:
    """The range of a narrow type, and the bounds that are known of values.

    Attributes:
        largest: the largest number of the type.
        is_that_of_float32: whether nothing can leave it that float32 holds.
    """

    def __init__(self, dtype: str) -> None:
        self.largest = LARGEST[dtype]
        self.is_that_of_float32 = self.largest > 1e38
        self._bounds: dict[relax.Var, float] = {}

    def holds(self, value: np.ndarray) -> bool:
        """Whether no number of ``value``, infinities aside, lies outside."""
        if self.is_that_of_float32 or not value.size:
            return True
        magnitudes = np.abs(value)
        return bool(np.all((magnitudes <= self.largest) | ~np.isfinite(magnitudes)))

    def holds_constant(self, expr: relax.Expr) -> bool:
        """Whether ``expr`` is no constant, or one whose numbers lie inside."""
        value = constant_value(expr)
        return value is None or value.dtype != np.float32 or self.holds(value)

    def may_leave(self, call: ir.Call) -> bool:
        """Whether the result of an operator on values inside may lie outside."""
        if self.is_that_of_float32:
            return False
        name = call.op.name.removeprefix("relax.")
        if name in _UNBOUNDED:
            return True
        if name == "clip":
            low, high = _clip_bounds(call)
            return low > self.largest or high < -self.largest
        if name not in _WITH_CONSTANTS:
            return False
        return not all(map(self.holds_constant, call.args)) or self._grows(name, *call.args[:2])

    def _grows(self, name: str, a: relax.Expr, b: relax.Expr) -> bool:
        if name not in _GROWING:
            return False
        if name == "divide":
            value = constant_value(b)
            return value is None or MOST_GROWTH * _smallest(value) < 1
        if name != "multiply" and any(constant_value(operand) is not None for operand in (a, b)):
            return False
        return min(self._bound(a), self._bound(b)) > MOST_GROWTH

    def note(self, binding: relax.VarBinding) -> None:
        """Remembers what the operator that is bound says about its result."""
        name = operator_name(binding.value).removeprefix("relax.")
        if self.is_that_of_float32 or not name or not _is_float32(binding.var):
            return
        bound = self._bound_of_result(name, binding.value)
        if bound < np.inf:
            self._bounds[binding.var] = bound

    def _bound_of_result(self, name: str, call: ir.Call) -> float:
        if name in _AT_MOST_ONE:
            return 1.0
        if name == "clip":
            return max(map(abs, _clip_bounds(call)))
        if name in ("add", "subtract"):
            return self._bound(call.args[0]) + self._bound(call.args[1])
        if name == "multiply":
            return self._bound(call.args[0]) * self._bound(call.args[1])
        if name == "divide" and (divisor := constant_value(call.args[1])) is not None:
            smallest = _smallest(divisor)
            return self._bound(call.args[0]) / smallest if smallest > 0 else np.inf
        return self._bound(call.args[0]) if name in _NO_LARGER else np.inf

    def _bound(self, expr: relax.Expr) -> float:
        """No number of ``expr``, an operand, is larger; infinite where nothing is known."""
        value = constant_value(expr)
        if value is not None:
            return float(np.abs(value).max(initial=0))
        return self._bounds.get(expr, np.inf) if isinstance(expr, relax.Var) else np.inf


def _is_float32(var: relax.Var) -> bool:
    return isinstance(var.ty, relax.TensorType) and element_type(var) == "float32"


def _clip_bounds(call: ir.Call) -> tuple[float, float]:
    low, high = (float(bound.value) for bound in call.args[1:])
    return low, high


def _smallest(divisor: np.ndarray) -> float:
    """The least magnitude; infinite where there is no number."""
    return float(np.abs(divisor).min(initial=np.inf))


_UNBOUNDED = frozenset({"exp", "power", "square", "nn.log_softmax"})
_GROWING = frozenset({"add", "subtract", "multiply", "divide"})
_WITH_CONSTANTS = _GROWING | {"maximum", "minimum", "nn.layer_norm"}
_AT_MOST_ONE = frozenset({"sigmoid", "tanh", "erf", "sin", "cos", "sign", "nn.softmax"})
_NO_LARGER = frozenset(
    {"abs", "negative", "nn.relu", "reshape", "permute_dims", "squeeze", "expand_dims", "broadcast_to"}
)
