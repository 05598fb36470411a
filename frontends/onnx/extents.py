"""Integer arithmetic on symbolic extents: one normal form, so that equal extents look equal.

TVM's analyzer does not order products (``b * n`` against ``n * b``), nor does it divide a product by one of
its factors. Model files are full of both, so extents are kept here as polynomials with integer
coefficients over *atoms*: variables, and whatever else is not a sum or a product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, TypeAlias

import tvm
from tvm import tirx
from tvm.ir import Expr, Var
from tvm.sym import Analyzer, ProofStrength
from tvm_ffi import StructuralKey

Extent: TypeAlias = int | Expr
"""A dimension or an element of a shape: an int where it is known, else an int64 expression."""

_Monomial = tuple[str, ...]
_Polynomial = dict[_Monomial, int]
_Key = frozenset[tuple[_Monomial, int]]

_LARGEST = (1 << 31) - 1
_PROOF_STEPS = 20_000
"""What one proof may cost, in the solver's own unit, so that results do not depend on the machine's speed."""


class Extents:
    """The symbolic dimensions of one model, and what is known about them.

    Every dimension is at least zero and below 2**31; nothing else is assumed.
    """

    def __init__(self) -> None:
        self.variables: dict[str, Var] = {}
        self._analyzer = Analyzer()
        self._analyzer.set_z3_rlimit(_PROOF_STEPS)
        self._atoms: dict[str, Expr] = {}
        self._simplified: dict[int, tuple[Expr, Extent]] = {}
        self._polynomials: dict[int, tuple[Expr, _Polynomial]] = {}
        self._operations: dict[type[Any], Callable[[Any], _Polynomial]] = {
            tirx.Add: self._sum,
            tirx.Sub: self._difference,
            tirx.Mul: self._product,
            tirx.FloorDiv: lambda value: self._quotient(self._polynomial(value.a), self._polynomial(value.b)),
            tirx.FloorMod: lambda value: self._remainder(
                self._polynomial(value.a), self._polynomial(value.b)
            ),
        }
        self._atom_keys: dict[StructuralKey, str] = {}
        self._quotients: dict[tuple[_Key, _Key], _Polynomial] = {}

    def variable(self, name: str) -> Var:
        """The dimension of this name; made on first use."""
        if name not in self.variables:
            var = tirx.Var(name, "int64")
            self.variables[name] = var
            self._analyzer.bind(var, tvm.ir.Range(_int64(0), _int64(_LARGEST)))
        return self.variables[name]

    def fresh(self, hint: str) -> Var:
        """A dimension with a new name made from ``hint``."""
        name, count = hint, 0
        while name in self.variables:
            count += 1
            name = f"{hint}_{count}"
        return self.variable(name)

    def simplify(self, value: Extent) -> Extent:
        """The normal form; an int if the value is known. Booleans and floats pass through TVM's analyzer."""
        if isinstance(value, int | float):
            return value
        if isinstance(value, tirx.IntImm | tirx.FloatImm):
            return _plain(value)
        known = self._simplified.get(hash(value))
        if known is not None:
            return known[1]
        if _is_index(value):
            simple = self._expression(self._polynomial(value))
        else:
            simple = _plain(self._analyzer.simplify(value))
        self._simplified[hash(value)] = (value, simple)
        return simple

    def product(self, values: Iterable[Extent]) -> Extent:
        """The product in normal form; 1 for no values."""
        return self.simplify(reduce(lambda a, b: a * b, values, 1))

    def equal(self, a: Extent, b: Extent) -> bool:
        """Whether the two are provably equal."""
        return self.decide_equal(a, b) is True

    def decide_equal(self, a: Extent, b: Extent) -> bool | None:
        """True or False where that is certain, None where it depends on the dimensions."""
        if isinstance(a, int) and isinstance(b, int):
            return a == b
        if not all(isinstance(side, int) or _is_index(side) for side in (a, b)):
            difference = self.simplify(a - b)
        else:
            # As polynomials: an expression made for the difference would be one more to be simplified.
            apart = _add(self._polynomial(a), _scale(self._polynomial(b), -1))
            difference = apart.get((), 0) if set(apart) <= {()} else self._expression(apart)
        if isinstance(difference, int):
            return difference == 0
        bound = self._analyzer.const_int_bound(difference)
        return False if bound.min_value > 0 or bound.max_value < 0 else None

    def decide(self, condition: bool | Expr) -> bool | None:
        """A condition's truth where it is certain, else None."""
        if isinstance(condition, bool | int):
            return bool(condition)
        if isinstance(condition, tirx.EQ | tirx.NE):
            same = self.decide_equal(condition.a, condition.b)
            return None if same is None else same == isinstance(condition, tirx.EQ)
        simple = _plain(self._analyzer.simplify(condition))
        return bool(simple) if isinstance(simple, int) else None

    def proves(self, condition: bool | Expr) -> bool:
        """Whether the condition certainly holds."""
        return self.decide(condition) is True

    def at_least(self, value: Extent, bound: int) -> bool:
        """Whether ``value >= bound`` certainly holds."""
        if isinstance(value, int):
            return value >= bound
        if self._analyzer.const_int_bound(value).min_value >= bound:
            return True
        return bool(self._analyzer.can_prove(value >= _int64(bound), ProofStrength.SYMBOLIC_BOUND))

    def minimum(self, a: Extent, b: Extent) -> Extent:
        """min(a, b), resolved where that is certain."""
        ordered = self._ordered(a, b)
        return ordered[0] if ordered else self.simplify(tirx.min(_expr(a), _expr(b)))

    def maximum(self, a: Extent, b: Extent) -> Extent:
        """max(a, b), resolved where that is certain."""
        ordered = self._ordered(a, b)
        return ordered[1] if ordered else self.simplify(tirx.max(_expr(a), _expr(b)))

    def clamp(self, value: Extent, low: Extent, high: Extent) -> Extent:
        """min(max(value, low), high), resolved where that is certain."""
        return self.minimum(self.maximum(value, low), high)

    def floor_divide(self, a: Extent, b: Extent) -> Extent:
        """Division that rounds down."""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        return self.simplify(tirx.floordiv(_expr(a), _expr(b)))

    def remainder(self, a: Extent, b: int) -> Extent:
        """a modulo a positive b, never negative."""
        return a % b if isinstance(a, int) else self.simplify(tirx.floormod(a, _int64(b)))

    def ceil_divide(self, a: Extent, b: Extent) -> Extent:
        """Division of ``a`` by a positive ``b`` that rounds up."""
        return self.floor_divide(a + b - 1, b)

    def truncate_divide(self, a: Extent, b: Extent) -> Extent:
        """Division that rounds toward zero, as in C."""
        if isinstance(a, int) and isinstance(b, int):
            return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        if self.at_least(a, 0) and self.at_least(b, 0):
            return self.floor_divide(a, b)
        return self.simplify(tirx.truncdiv(_expr(a), _expr(b)))

    def _ordered(self, a: Extent, b: Extent) -> tuple[Extent, Extent] | None:
        """The smaller and the larger one, if it is certain which is which."""
        if self.at_least(self.simplify(b - a), 0):
            return self.simplify(a), self.simplify(b)
        if self.at_least(self.simplify(a - b), 0):
            return self.simplify(b), self.simplify(a)
        return None

    def _polynomial(self, value: Extent) -> _Polynomial:
        if isinstance(value, int):
            return {(): value} if value else {}
        if isinstance(value, tirx.IntImm):
            return self._polynomial(int(value.value))
        # The hash is that of the object (of all but numbers), which the table keeps alive.
        known = self._polynomials.get(hash(value))
        if known is not None:
            return known[1]
        made = self._operations.get(type(value), self._other)(value)
        self._polynomials[hash(value)] = (value, made)
        return made

    def _sum(self, value: Expr) -> _Polynomial:
        return _add(self._polynomial(value.a), self._polynomial(value.b))

    def _difference(self, value: Expr) -> _Polynomial:
        return _add(self._polynomial(value.a), _scale(self._polynomial(value.b), -1))

    def _product(self, value: Expr) -> _Polynomial:
        return _multiply(self._polynomial(value.a), self._polynomial(value.b))

    def _floor_division(self, value: Expr) -> _Polynomial:
        return self._quotient(self._polynomial(value.a), self._polynomial(value.b))

    def _floor_remainder(self, value: Expr) -> _Polynomial:
        return self._remainder(self._polynomial(value.a), self._polynomial(value.b))

    def _other(self, value: Expr) -> _Polynomial:
        return self._atom(self._rebuilt(value))

    def _quotient(self, a: _Polynomial, b: _Polynomial) -> _Polynomial:
        """floor(a / b)."""
        key = frozenset(a.items()), frozenset(b.items())
        if key not in self._quotients:
            self._quotients[key] = self._divided(a, b)
        return self._quotients[key]

    def _divided(self, a: _Polynomial, b: _Polynomial) -> _Polynomial:
        """floor(a / b): terms of ``a`` that ``b`` divides leave the floor; nested floors merge."""
        if len(b) != 1:
            return self._floor(a, b)
        (monomial, factor), *_ = b.items()
        inside, outside = {}, {}
        for term, coefficient in a.items():
            rest = _without(term, monomial)
            if rest is not None and coefficient % factor == 0:
                outside[rest] = coefficient // factor
            else:
                inside[term] = coefficient
        if not monomial and factor > 0 and inside.get((), 0):
            steps, inside[()] = divmod(inside[()], factor)
            outside = _add(outside, {(): steps})
            inside = {term: c for term, c in inside.items() if c}
        return _add(outside, self._floor(inside, b)) if inside else outside

    def _floor(self, a: _Polynomial, b: _Polynomial) -> _Polynomial:
        if not a:
            return {}
        if set(a) == {()} and set(b) == {()}:
            return self._polynomial(a[()] // b[()])
        merged = self._merge_floors(a, b)
        if merged is not None:
            return merged
        return self._atom(tirx.floordiv(_expr(self._expression(a)), _expr(self._expression(b))))

    def _merge_floors(self, a: _Polynomial, b: _Polynomial) -> _Polynomial | None:
        """floor((floor(x / c) + k) / d) = floor((x + k c) / (c d)) for positive integers c and d."""
        terms = [term for term in a if term]
        if set(b) != {()} or b[()] <= 0 or len(terms) != 1 or len(terms[0]) != 1 or a[terms[0]] != 1:
            return None
        inner = self._atoms[terms[0][0]]
        if not isinstance(inner, tirx.FloorDiv) or not isinstance(inner.b, tirx.IntImm) or inner.b.value <= 0:
            return None
        divisor = int(inner.b.value)
        numerator = _add(self._polynomial(inner.a), {(): a.get((), 0) * divisor})
        return self._quotient({t: c for t, c in numerator.items() if c}, {(): divisor * b[()]})

    def _remainder(self, a: _Polynomial, b: _Polynomial) -> _Polynomial:
        quotient = self._quotient(a, b)
        remainder = _add(a, _scale(_multiply(quotient, b), -1))
        if all(not term for term in remainder):
            return remainder
        return self._atom(tirx.floormod(_expr(self._expression(a)), _expr(self._expression(b))))

    def _rebuilt(self, value: Expr) -> Expr:
        """``value`` with its operands in normal form, simplified once more."""
        if isinstance(value, tirx.Min | tirx.Max | tirx.Div | tirx.Mod):
            a, b = _expr(self.simplify(value.a)), _expr(self.simplify(value.b))
            value = type(value)(a, b)
        return self._analyzer.simplify(value)

    def _atom(self, value: Expr) -> _Polynomial:
        if isinstance(value, tirx.IntImm):
            return self._polynomial(int(value.value))
        key = value.name if isinstance(value, Var) else self._key(value)
        self._atoms.setdefault(key, value)
        return {(key,): 1}

    def _key(self, value: Expr) -> str:
        """A name for an expression, the same for equal ones; numbered in the order of first use."""
        return self._atom_keys.setdefault(StructuralKey(value), f"~{len(self._atom_keys):06}")

    def _expression(self, polynomial: _Polynomial) -> Extent:
        terms = sorted((term, c) for term, c in polynomial.items() if c and term)
        constant = polynomial.get((), 0)
        if not terms:
            return constant
        terms.sort(key=lambda entry: entry[1] < 0)
        total: Extent | None = None
        for term, coefficient in terms:
            value = reduce(lambda a, b: a * b, (self._atoms[key] for key in term))
            magnitude = value if abs(coefficient) == 1 else value * _int64(abs(coefficient))
            if total is None:
                total = magnitude if coefficient > 0 else value * _int64(coefficient)
            else:
                total = total + magnitude if coefficient > 0 else total - magnitude
        if constant:
            total = total + _int64(constant) if constant > 0 else total - _int64(-constant)
        return total


def _add(a: _Polynomial, b: _Polynomial) -> _Polynomial:
    total = dict(a)
    for term, coefficient in b.items():
        total[term] = total.get(term, 0) + coefficient
    return {term: c for term, c in total.items() if c}


def _scale(a: _Polynomial, factor: int) -> _Polynomial:
    return {term: c * factor for term, c in a.items()}


def _multiply(a: _Polynomial, b: _Polynomial) -> _Polynomial:
    total: _Polynomial = {}
    for term_a, c_a in a.items():
        for term_b, c_b in b.items():
            term = tuple(sorted(term_a + term_b))
            total[term] = total.get(term, 0) + c_a * c_b
    return {term: c for term, c in total.items() if c}


def _without(term: _Monomial, divisor: _Monomial) -> _Monomial | None:
    rest = list(term)
    for atom in divisor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _is_index(value: Expr) -> bool:
    return str(value.ty.dtype) in ("int64", "int32")


def _int64(value: int) -> tirx.IntImm:
    return tirx.IntImm("int64", value)


def _expr(value: Extent) -> Expr:
    return _int64(value) if isinstance(value, int) else value


def _plain(value: Expr) -> int | float | Expr:
    return value.value if isinstance(value, tirx.IntImm | tirx.FloatImm) else value


def as_expression(value: Extent) -> Expr:
    """An extent as the expression that Relax wants."""
    return _expr(value)
