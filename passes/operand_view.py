"""Tensors read through the transposes, slices and reshapes that made them, so that no copy is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm import ir, relax, te, tirx
from tvm.sym import Analyzer

from .constants import constant_value
from .rewrite import CallRewriter

_ANALYZER = Analyzer()


@dataclass(frozen=True)
class SourceAxis:
    """Where on an axis of the source an element of the view lies: ``offset``, plus its place on the view's
    axis ``axis`` if there is one."""

    axis: int | None
    offset: int = 0


@dataclass(frozen=True)
class View:
    """A tensor as a part of another one, its axes in another order, times a number.

    Attributes:
        source: the tensor in memory.
        axes: an entry for each axis of ``source``.
        extents: of the view's axes, None where they are symbolic and those of the source.
        scale: the number.
    """

    source: relax.Expr
    axes: tuple[SourceAxis, ...]
    extents: tuple[int | None, ...]
    scale: float = 1.0

    def load(self, source: te.Tensor, index: Sequence[tirx.Expr]) -> tirx.Expr:
        """The view's element at ``index``, read from ``source``, the tensor's placeholder."""
        place = [
            entry.offset if entry.axis is None else index[entry.axis] + entry.offset for entry in self.axes
        ]
        value = source(*place)
        return value if self.scale == 1.0 else value * tirx.const(self.scale, value.ty.dtype)

    def shape(self, source: te.Tensor) -> list[tirx.Expr]:
        """The view's shape, in the terms of ``source``, the tensor's placeholder."""
        places = {entry.axis: place for place, entry in enumerate(self.axes)}
        return [
            source.shape[places[axis]] if extent is None else extent
            for axis, extent in enumerate(self.extents)
        ]

    def innermost(self) -> int | None:
        """The view's axis along which neighbours are neighbours in memory."""
        return self.axes[-1].axis


def view_of(rewriter: CallRewriter, tensor: relax.Expr) -> View:
    """``tensor`` as a view of the furthest tensor behind it that it is a view of, itself at least."""
    extents = tuple(_number(extent) for extent in tensor.ty.shape)
    view = View(tensor, tuple(SourceAxis(axis) for axis in range(len(extents))), extents)
    while (further := _one_step(rewriter, view)) is not None:
        view = further
    return view


def scaled(rewriter: CallRewriter, tensor: relax.Expr) -> tuple[relax.Expr, float] | None:
    """The tensor and the number whose product ``tensor`` is, by its definition; None if it is none."""
    for op in ("relax.multiply", "relax.divide"):
        call = rewriter.defining_call(tensor, op)
        factor = None if call is None else constant_value(call.args[1])
        if (
            call is not None
            and factor is not None
            and factor.size == 1
            and factor.ndim <= call.args[0].ty.ndim
        ):
            number = float(factor.reshape(()))
            if op == "relax.multiply":
                return call.args[0], number
            return (call.args[0], 1.0 / number) if number else None
    return None


def _one_step(rewriter: CallRewriter, view: View) -> View | None:
    part = scaled(rewriter, view.source)
    if part is not None:
        return replace(view, source=part[0], scale=view.scale * part[1])
    for op, behind in _BEHIND.items():
        call = rewriter.defining_call(view.source, op)
        if call is not None:
            axes = behind(call)
            return None if axes is None else _composed(view, call.args[0], axes)
    return _behind_split(rewriter, view)


def _composed(view: View, source: relax.Expr, axes: Sequence[SourceAxis]) -> View:
    """``view`` as one of ``source``, of which its present source is the view ``axes``."""

    def compose(entry: SourceAxis) -> SourceAxis:
        if entry.axis is None:
            return entry
        nearer = view.axes[entry.axis]
        return SourceAxis(nearer.axis, nearer.offset + entry.offset)

    return replace(view, source=source, axes=tuple(compose(entry) for entry in axes))


def _behind_permute(call: ir.Call) -> list[SourceAxis]:
    rank = int(call.args[0].ty.ndim)
    axes = call.attrs.axes
    order = list(range(rank))[::-1] if axes is None else [int(axis) % rank for axis in axes]
    return [SourceAxis(order.index(axis)) for axis in range(rank)]


def _behind_reshape(call: ir.Call) -> list[SourceAxis] | None:
    """Axes of extent one that come or go; other reshapes are no views of this kind."""
    old, new = call.args[0].ty.shape, call.ty.shape
    if old is None or new is None:
        return None
    kept = [axis for axis, extent in enumerate(new) if not is_one(extent)]
    wide = [extent for extent in old if not is_one(extent)]
    if len(wide) != len(kept) or not all(same(a, new[b]) for a, b in zip(wide, kept, strict=True)):
        return None
    remaining = iter(kept)
    return [SourceAxis(None) if is_one(extent) else SourceAxis(next(remaining)) for extent in old]


def _behind_slice(call: ir.Call) -> list[SourceAxis] | None:
    """A slice by constants, element after element."""
    axes, begins, _, *strides = (_numbers(argument) for argument in call.args[1:])
    if axes is None or begins is None or min(begins) < 0 or any(set(s or (0,)) != {1} for s in strides):
        return None
    rank = int(call.args[0].ty.ndim)
    offsets = {axis % rank: begin for axis, begin in zip(axes, begins, strict=True)}
    if any(_number(call.ty.shape[axis]) is None for axis in offsets):
        return None
    return [SourceAxis(axis, offsets.get(axis, 0)) for axis in range(rank)]


def _behind_split(rewriter: CallRewriter, view: View) -> View | None:
    """A part of a tensor that was split."""
    item = rewriter.lookup_binding(view.source) if isinstance(view.source, relax.Var) else view.source
    if not isinstance(item, relax.TupleGetItem):
        return None
    split = rewriter.defining_call(item.tuple_value, "relax.split")
    if split is None:
        return None
    rank, axis = int(view.source.ty.ndim), int(split.attrs.axis)
    parts = [_number(part.shape[axis]) for part in list(split.ty.fields)[: int(item.index)]]
    known = [extent for extent in parts if extent is not None]
    if len(known) < len(parts):
        return None
    axes = [SourceAxis(place, sum(known) if place == axis % rank else 0) for place in range(rank)]
    return _composed(view, split.args[0], axes)


_BEHIND: dict[str, Callable[[ir.Call], Sequence[SourceAxis] | None]] = {
    "relax.permute_dims": _behind_permute,
    "relax.reshape": _behind_reshape,
    "relax.squeeze": _behind_reshape,
    "relax.expand_dims": _behind_reshape,
    "relax.strided_slice": _behind_slice,
}


def same(a: tirx.Expr, b: tirx.Expr) -> bool:
    """Whether two extents are always equal."""
    return bool(_ANALYZER.can_prove_equal(a, b))


def is_one(extent: tirx.Expr | int) -> bool:
    """Whether an extent is known to be one."""
    return isinstance(extent, int | tirx.IntImm) and int(extent) == 1


def _number(extent: object) -> int | None:
    return int(extent) if isinstance(extent, int | tirx.IntImm) else None


def _numbers(values: relax.Tuple) -> list[int] | None:
    found = [_number(value) for value in values.fields]
    known = [value for value in found if value is not None]
    return known if known and len(known) == len(found) else None
