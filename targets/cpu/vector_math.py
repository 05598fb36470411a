"""Elementary functions of float32 as polynomials, which vectorise where calls of a C library would not.

The coefficients are least-squares fits on Chebyshev nodes. Errors against exact values stay below 3 units in
the last place. Doubles keep TVM's own lowering, where it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import numpy as np
from tvm import ir, tirx
from tvm.ir import register_op_attr
from tvm.tirx.op import register_intrin_lowering

Lowering = Callable[[tirx.Expr], tirx.Expr]
CallLowering: TypeAlias = "Callable[[ir.Call], tirx.Expr]"

_LOG2_E = 1.4426950408889634
# ln 2 in two parts: multiples of the first, up to 2^8, are exact in float32.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP_RANGE = (-104.0, 89.0)  # beyond it, exp is 0 or infinite in float32
_EXP = (
    1.0,
    1.0,
    0.49999993451472563,
    0.1666652068756307,
    0.041668387408561686,
    0.008368710035311748,
    0.0013814611000423065,
)
_EXP2 = (
    1.0,
    0.6931469775915952,
    0.24022242080363443,
    0.055507337542473056,
    0.009671512869549946,
    0.001326472389303942,
)
_INTEGERS = 1.5 * 2**23
"""Added to a float32, it leaves the nearest integer in the low bits of the mantissa."""
_BIAS = 127
"""Of a float32's exponent."""
_AWAY = 64
"""By so many powers of two a result is kept away from where float32 ends, until the last multiplication."""
_TANH = (
    -0.33333329099617115,
    0.13332782263995507,
    -0.053852497468573346,
    0.021003641220945314,
    -0.006104948011487972,
)
_TANH_SMALL = 0.625
_TANH_ONE = 10.0  # from here on tanh is 1 in float32
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
# (log(1 + f) - f + f^2 / 2) / f^3
_LOG = (
    0.33333310898963897,
    -0.25000016279058335,
    0.20002204183610245,
    -0.16667643716099795,
    0.14217891534651386,
    -0.12411268686954441,
    0.11904712128982595,
    -0.11646434415476142,
    0.06675271889631035,
)
_SMALLEST_NORMAL = 2.0**-126
_MANTISSA_BITS = 23


def exp(x: tirx.Expr) -> tirx.Expr:
    """e^x: the power of two in the exponent, the rest by a polynomial; NaN, infinities and denormals kept.

    An argument spelled ``min(y, 0)`` saves the care for large results.
    """
    bounded_above = _below_zero(x)
    if bounded_above is not None:
        return _exp_below_zero(bounded_above)
    low, high = _EXP_RANGE

    def scaled(bounded: tirx.Expr) -> tirx.Expr:
        def by_sign(negative: float, positive: float) -> tirx.Expr:
            return _by_sign(bounded, negative, positive)

        offset = by_sign(_INTEGERS + _BIAS + _AWAY, _INTEGERS + _BIAS - _AWAY)
        return _let(offset, lambda shift: _exp(bounded, shift) * by_sign(2.0**-_AWAY, 2.0**_AWAY))

    return _let(_at_most(_at_least(x, low), high), scaled)


def _by_sign(x: tirx.Expr, negative: float, positive: float) -> tirx.Expr:
    """One of two numbers by the sign bit of ``x``.

    By bits: TVM would simplify all that follows once for each side of a selection, for each function that the
    argument of another one contains.
    """
    integer = _integer(x)
    first, second = (int(np.float32(number).view(np.int32)) for number in (positive, negative))
    sign = tirx.shift_right(tirx.reinterpret(integer, x), tirx.const(31, integer))
    changed = tirx.bitwise_and(sign, tirx.const(first ^ second, integer))
    return tirx.reinterpret(_dtype(x), tirx.bitwise_xor(changed, tirx.const(first, integer)))


def _below_zero(x: tirx.Expr) -> tirx.Expr | None:
    """y of min(y, 0)."""
    if not isinstance(x, tirx.Min):
        return None
    bound = x.b.value if isinstance(x.b, tirx.Broadcast) else x.b
    return x.a if isinstance(bound, tirx.FloatImm) and float(bound.value) == 0 else None


def _exp_below_zero(x: tirx.Expr) -> tirx.Expr:
    """e^x for x <= 0."""
    shift = _like(_INTEGERS + _BIAS + _AWAY, x)
    return _let(_at_least(x, _EXP_RANGE[0]), lambda bounded: _exp(bounded, shift) * _like(2.0**-_AWAY, x))


def _exp(x: tirx.Expr, shift: tirx.Expr) -> tirx.Expr:
    """e^x times two to the power by which ``shift`` is more than ``_INTEGERS + _BIAS``."""

    def with_power(shifted: tirx.Expr) -> tirx.Expr:
        def rest(n: tirx.Expr) -> tirx.Expr:
            return _let(
                x - n * _like(_LN2_HIGH, x) - n * _like(_LN2_LOW, x),
                lambda r: _polynomial(_EXP, r) * _two_to(shifted),
            )

        return _let(shifted - shift, rest)

    return _let(_rounded(x * _like(_LOG2_E, x), shift), with_power)


def _exp2(x: tirx.Expr) -> tirx.Expr:
    """2^x, accurate to 1e-7 of it, for |x| < 127."""
    shift = _like(_INTEGERS + _BIAS, x)

    def with_power(shifted: tirx.Expr) -> tirx.Expr:
        return _let(x - (shifted - shift), lambda r: _polynomial(_EXP2, r) * _two_to(shifted))

    return _let(_rounded(x, shift), with_power)


def _rounded(x: tirx.Expr, shift: tirx.Expr) -> tirx.Expr:
    """``x + shift``, the sum's rounding being what is wanted of it.

    By way of its bits: TVM's analyzers take (x + shift) - shift for x, and x less that for zero.
    """
    return tirx.reinterpret(_dtype(x), tirx.reinterpret(_integer(x), x + shift))


def _two_to(shifted: tirx.Expr) -> tirx.Expr:
    """2^n of n + ``_INTEGERS`` + ``_BIAS``: the mantissa's low bits become the exponent."""
    integer = _integer(shifted)
    bits = tirx.shift_left(tirx.reinterpret(integer, shifted), tirx.const(23, integer))
    return tirx.reinterpret(_dtype(shifted), bits)


def log(x: tirx.Expr) -> tirx.Expr:
    """ln x: the exponent times ln 2, and a polynomial of the mantissa, between the roots of 1/2 and 2."""

    def of_normal(scaled: tirx.Expr) -> tirx.Expr:
        bits = tirx.reinterpret(_integer(x), scaled)
        lowest = tirx.const(int(np.float32(np.sqrt(0.5)).view(np.int32)), _integer(x))
        places = tirx.const(_MANTISSA_BITS, _integer(x))
        return _let(tirx.shift_right(bits - lowest, places), lambda n: of_exponent(bits, n, places))

    def of_exponent(bits: tirx.Expr, n: tirx.Expr, places: tirx.Expr) -> tirx.Expr:
        mantissa = tirx.reinterpret(_dtype(x), bits - tirx.shift_left(n, places))
        exponent = tirx.Cast(_dtype(x), n) - _if(small, float(_MANTISSA_BITS), 0.0)
        return _let(exponent, lambda e: _let(mantissa - _like(1, x), lambda f: _sum_of_logs(e, f)))

    def _if(condition: tirx.Expr, yes: float, no: float) -> tirx.Expr:
        return tirx.Select(condition, _like(yes, x), _like(no, x))

    small = x < _like(_SMALLEST_NORMAL, x)
    result = _let(x * _if(small, 2.0**_MANTISSA_BITS, 1.0), of_normal)
    outside = tirx.Select(x.equal(_like(0, x)), _like(-np.inf, x), _like(np.nan, x))
    finite = tirx.Select(x < _like(np.inf, x), result, x)  # NaN, too, passes here
    return tirx.Select(x > _like(0, x), finite, outside)


def log1p(x: tirx.Expr) -> tirx.Expr:
    """ln(1 + x): the logarithm of the rounded sum, by the ratio of x to what the sum has of it.

    Higham, "Accuracy and Stability of Numerical Algorithms", section 1.14.1.
    """

    def from_sum(total: tirx.Expr) -> tirx.Expr:
        kept = total - _like(1, x)
        small = tirx.Select(kept.equal(_like(0, x)), x, log(total) * (x / kept))
        return tirx.Select(total < _like(np.inf, x), small, total)

    return _let(tirx.reinterpret(_dtype(x), tirx.reinterpret(_integer(x), x + _like(1, x))), from_sum)


def _sum_of_logs(exponent: tirx.Expr, f: tirx.Expr) -> tirx.Expr:
    """exponent * ln 2 + ln(1 + f), the small terms first."""
    small = f * f * f * _polynomial(_LOG, f) + exponent * _like(_LN2_LOW, f) - _like(0.5, f) * f * f
    return small + f + exponent * _like(_LN2_HIGH, f)


def sigmoid(x: tirx.Expr) -> tirx.Expr:
    """1 / (1 + e^-x); e^x / (1 + e^x) below zero, where e^-x might overflow before the result is zero."""

    def from_power(e: tirx.Expr) -> tirx.Expr:
        return tirx.Select(x < _like(0, x), e, _like(1, x)) / (_like(1, x) + e)

    return _let(_exp_below_zero(-tirx.abs(x)), from_power)


def tanh(x: tirx.Expr) -> tirx.Expr:
    """A polynomial near zero, 1 - 2 / (e^2|x| + 1) with x's sign elsewhere."""

    def from_magnitude(a: tirx.Expr) -> tirx.Expr:
        square = x * x
        small = x * (_like(1, x) + square * _polynomial(_TANH, square))
        power = _exp2(_at_most(a, _TANH_ONE) * _like(2 * _LOG2_E, x))
        large = _like(1, x) - _like(2, x) / (power + _like(1, x))
        return tirx.Select(a < _like(_TANH_SMALL, x), small, _with_sign(large, x))

    return _let(tirx.abs(x), from_magnitude)


def erf(x: tirx.Expr) -> tirx.Expr:
    """A polynomial up to 1, 1 - 2^-p(|x|) with x's sign beyond."""

    def from_magnitude(a: tirx.Expr) -> tirx.Expr:
        small = x * _polynomial(_ERF_SMALL, x * x)
        exponent = _polynomial([-_LOG2_E * c for c in _ERF_LOG_COMPLEMENT], _at_most(a, _ERF_ONE))
        large = _like(1, x) - _let(exponent, _exp2)
        return tirx.Select(a < _like(1, x), small, _with_sign(large, x))

    return _let(tirx.abs(x), from_magnitude)


def _polynomial(coefficients: Sequence[float], x: tirx.Expr) -> tirx.Expr:
    """Horner's scheme; ``coefficients`` from the constant term up."""
    value = _like(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + _like(coefficient, x)
    return value


def _with_sign(magnitude: tirx.Expr, x: tirx.Expr) -> tirx.Expr:
    """``magnitude``, which is positive, with the sign bit of ``x``."""
    integer = _integer(x)
    sign = tirx.bitwise_and(tirx.reinterpret(integer, x), tirx.const(-(2**31), integer))
    return tirx.reinterpret(_dtype(x), tirx.bitwise_or(tirx.reinterpret(integer, magnitude), sign))


# A comparison with NaN is false, so NaN passes these two.
def _at_least(x: tirx.Expr, low: float) -> tirx.Expr:
    return tirx.Select(x < _like(low, x), _like(low, x), x)


def _at_most(x: tirx.Expr, high: float) -> tirx.Expr:
    return tirx.Select(x > _like(high, x), _like(high, x), x)


def _integer(x: tirx.Expr) -> str:
    """The integer type of the width of ``x``."""
    return _dtype(x).replace("float", "int")


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


def _of_doubles_by_lane(function: str) -> CallLowering:
    """The C library's ``function``, lane by lane: LLVM has no intrinsic of it, and so no vectors either."""

    def lower(call: ir.Call) -> tirx.Expr:
        x = call.args[0]
        lanes = x.ty.dtype.lanes
        if lanes == 1:
            return tirx.call_pure_extern("float64", function, x)

        def by_lane(vector: tirx.Var) -> tirx.Expr:
            elements = [tirx.Shuffle([vector], [lane]) for lane in range(lanes)]
            results = [tirx.call_pure_extern("float64", function, element) for element in elements]
            return tirx.Shuffle(results, list(range(lanes)))

        return _let(x, by_lane)

    return lower


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


_LOWERINGS: dict[str, tuple[Lowering, CallLowering]] = {
    "tirx.exp": (exp, _own_lowering("tirx.exp")),
    "tirx.sigmoid": (sigmoid, _sigmoid_of_doubles),
    "tirx.tanh": (tanh, _own_lowering("tirx.tanh")),
    "tirx.erf": (erf, _of_doubles_by_lane("erf")),
    "tirx.log": (log, _own_lowering("tirx.log")),
    "tirx.log1p": (log1p, _of_doubles_by_lane("log1p")),
}
ELEMENTARY_FUNCTIONS = frozenset(_LOWERINGS)

for _op, (_definition, _of_doubles) in _LOWERINGS.items():
    _register(_op, _definition, _of_doubles)

for _op in ("tirx.erf", "tirx.log1p", "tirx.nearbyint", "tirx.isnan"):
    # TVM would compute these lane by lane, and forget that the lanes lie side by side.
    register_op_attr(_op, "TVectorizable", True)
