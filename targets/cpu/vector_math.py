"""Elementary functions of float32 as polynomials, which vectorise where calls of a C library would not.

The coefficients are least-squares fits on Chebyshev nodes. Errors against exact values stay below 3 units in
the last place. Doubles keep TVM's own lowering, where it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import numpy as np
from tvm import ir, tirx
from tvm.tirx.op import register_intrin_lowering

Lowering = Callable[[tirx.Expr], tirx.Expr]
CallLowering: TypeAlias = "Callable[[ir.Call], tirx.Expr]"

_LOG2_E = 1.4426950408889634
# ln 2 in two parts: multiples of the first, up to 2^8, are exact in float32.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP_RANGE = (-104.0, 89.0)  # beyond it, exp is 0 or infinite in float32
_EXP = (
    0.5000000013543263,
    0.16666576643547149,
    0.041666464167312844,
    0.008363235384628407,
    0.0013933733216359295,
)
_TANH = (
    -0.33333329099617115,
    0.13332782263995507,
    -0.053852497468573346,
    0.021003641220945314,
    -0.006104948011487972,
)
_TANH_SMALL = 0.625
_ERF_SMALL = (
    1.1283791658815032,
    -0.3761262690358072,
    0.11283597463491149,
    -0.026854328796209415,
    0.005189311942977337,
    -0.0008018854995555241,
    7.882497119925114e-05,
)
_ERF_LOG_COMPLEMENT = (
    0.0004317699554090387,
    1.126708398492118,
    0.6388029280703491,
    0.10251105578263431,
    -0.021540471538116446,
    0.0028699307578399225,
    -0.00017809332708751402,
)
_ERF_ONE = 4.0  # from here on erf is 1 in float32


def exp(x: tirx.Expr) -> tirx.Expr:
    """e^x: the power of two in the exponent, the rest by a polynomial; NaN, infinities and denormals kept."""
    low, high = _EXP_RANGE
    return _let(
        tirx.max(tirx.min(x, _like(high, x)), _like(low, x)), lambda bounded: _keep_nan(x, _exp(bounded))
    )


def _exp(x: tirx.Expr) -> tirx.Expr:
    def with_power(n: tirx.Expr) -> tirx.Expr:
        return _let(x - n * _like(_LN2_HIGH, x) - n * _like(_LN2_LOW, x), lambda r: _scaled_exp(r, n))

    return _let(tirx.floor(x * _like(_LOG2_E, x) + _like(0.5, x)), with_power)


def _scaled_exp(r: tirx.Expr, n: tirx.Expr) -> tirx.Expr:
    """e^r * 2^n, in two steps because 2^n itself may not be a normal number."""
    integer = _dtype(r).replace("float", "int")

    def scale(power: tirx.Expr) -> tirx.Expr:
        half = tirx.shift_right(power, tirx.const(1, integer))
        return (_like(1, r) + (r + r * r * _polynomial(_EXP, r))) * _two_to(half) * _two_to(power - half)

    return _let(tirx.Cast(integer, n), scale)


def _two_to(power: tirx.Expr) -> tirx.Expr:
    """2^power, by building the float's exponent."""
    biased = power + tirx.const(127, _dtype(power))
    return tirx.reinterpret(
        _dtype(power).replace("int", "float"), tirx.shift_left(biased, tirx.const(23, _dtype(power)))
    )


def sigmoid(x: tirx.Expr) -> tirx.Expr:
    """1 / (1 + e^-x); e^x / (1 + e^x) below zero, where e^-x might overflow before the result is zero."""

    def from_power(e: tirx.Expr) -> tirx.Expr:
        return tirx.Select(x < _like(0, x), e, _like(1, x)) / (_like(1, x) + e)

    return _let(exp(-tirx.abs(x)), from_power)


def tanh(x: tirx.Expr) -> tirx.Expr:
    """A polynomial near zero, 1 - 2 / (e^2|x| + 1) with x's sign elsewhere."""

    def from_magnitude(a: tirx.Expr) -> tirx.Expr:
        square = x * x
        small = x * (_like(1, x) + square * _polynomial(_TANH, square))
        large = _like(1, x) - _like(2, x) / (exp(a * _like(2, x)) + _like(1, x))
        return tirx.Select(a < _like(_TANH_SMALL, x), small, _with_sign(large, x))

    return _let(tirx.abs(x), from_magnitude)


def erf(x: tirx.Expr) -> tirx.Expr:
    """A polynomial up to 1, 1 - e^-p(|x|) with x's sign beyond."""

    def from_magnitude(a: tirx.Expr) -> tirx.Expr:
        small = x * _polynomial(_ERF_SMALL, x * x)
        large = _like(1, x) - _exp(-_polynomial(_ERF_LOG_COMPLEMENT, tirx.min(a, _like(_ERF_ONE, x))))
        return _keep_nan(x, tirx.Select(a < _like(1, x), small, _with_sign(large, x)))

    return _let(tirx.abs(x), from_magnitude)


def _polynomial(coefficients: Sequence[float], x: tirx.Expr) -> tirx.Expr:
    """Horner's scheme; ``coefficients`` from the constant term up."""
    value = _like(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + _like(coefficient, x)
    return value


def _with_sign(magnitude: tirx.Expr, x: tirx.Expr) -> tirx.Expr:
    return tirx.Select(x < _like(0, x), -magnitude, magnitude)


def _keep_nan(x: tirx.Expr, value: tirx.Expr) -> tirx.Expr:
    return tirx.Select(tirx.isnan(x), x, value)


def _like(value: float, x: tirx.Expr) -> tirx.Expr:
    return tirx.const(float(np.float32(value)), _dtype(x))


def _dtype(x: tirx.Expr) -> str:
    return str(x.ty.dtype)


def _let(value: tirx.Expr, body: Callable[[tirx.Var], tirx.Expr]) -> tirx.Expr:
    """``body`` of ``value``, which is computed once."""
    var = tirx.Var("x", _dtype(value))
    return tirx.Let(var, value, body(var))


def _sigmoid_of_doubles(call: ir.Call) -> tirx.Expr:
    x = call.args[0]
    return tirx.const(1, _dtype(x)) / (tirx.const(1, _dtype(x)) + tirx.exp(-x))


def _erf_of_doubles(call: ir.Call) -> tirx.Expr:
    """The C library's function lane by lane: LLVM has no intrinsic of it, and so no vectors either."""
    x = call.args[0]
    lanes = x.ty.dtype.lanes
    if lanes == 1:
        return tirx.call_pure_extern("float64", "erf", x)

    def by_lane(vector: tirx.Var) -> tirx.Expr:
        elements = [tirx.Shuffle([vector], [lane]) for lane in range(lanes)]
        results = [tirx.call_pure_extern("float64", "erf", element) for element in elements]
        return tirx.Shuffle(results, list(range(lanes)))

    return _let(x, by_lane)


def _own_lowering(op: str) -> CallLowering:
    """What TVM does with an operator on doubles."""
    operator = ir.Op.get(op)
    lowering = operator.get_attr("llvm.FLowerIntrinsic") or operator.get_attr("default.FLowerIntrinsic")
    assert lowering is not None, op
    return cast(CallLowering, lowering)


def _register(op: str, definition: Lowering, of_doubles: CallLowering) -> None:
    def lower(call: ir.Call) -> tirx.Expr:
        x = call.args[0]
        return definition(x) if _dtype(x).startswith("float32") else of_doubles(call)

    register_intrin_lowering(op, "llvm", f=lower, level=15)


for _op, _definition, _of_doubles in (
    ("tirx.exp", exp, _own_lowering("tirx.exp")),
    ("tirx.sigmoid", sigmoid, _sigmoid_of_doubles),
    ("tirx.tanh", tanh, _own_lowering("tirx.tanh")),
    ("tirx.erf", erf, _erf_of_doubles),
):
    _register(_op, _definition, _of_doubles)
