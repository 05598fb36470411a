"""Assigns the blocked layout NCHW[b]c to whole regions of a graph.

Convolutions with constant weights start a region. Element-wise operators, pooling, concatenation and
means over the picture extend it; whatever else reads a blocked value gets it back in NCHW. Weights and
per-channel constants are packed here, at compile time. Where the channel count is not a multiple of the
block, the last block has idle lanes: they may hold anything, since reductions pass over them or multiply
them by zero (once they are cleared, where they need not be finite).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import tvm
from tvm import ir, relax

from .compute import layout
from .compute.channel_concat import concat_nchwc, lanes_of_unit
from .compute.phases import interleave_phases_nchwc, phases_of
from .constants import constant, constant_value
from .conv2d_layouts import blocked_conv2d
from .elementwise import BINARY, UNARY
from .layout_assigner import Blocked, LayoutAssigner, LayoutRule, feature_map_channels


def assign_layouts(mod: tvm.IRModule, block: int, depth: int = 2) -> tvm.IRModule:
    """The pass; ``block`` is the number of channels in a block, a vector's lanes.

    Convolutions of bfloat16 take ``depth`` channels in a step, those of float16 sum so many products in it.
    """
    for name, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            assigner = LayoutAssigner(mod, block, depth, _RULES)
            assigner.builder_.update_func(name, assigner.visit_expr(function))
            mod = assigner.builder_.get()
    return relax.transform.DeadCodeElimination()(mod)


def _interleaving(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    """Of a transposed convolution's phases, each of which must begin with a block of its own."""
    phases = phases_of(assigner.builder_.get()[call.args[0]])
    if phases is None or phases.channels % assigner.block or not assigner.is_blocked(call.args[1].fields[0]):
        return None
    source, shape = assigner.blocked[call.args[1].fields[0]].expr, list(call.ty.shape)
    interleave = partial(interleave_phases_nchwc, phases=phases, shape=shape)
    placed = assigner.builder_.call_te(interleave, source, primfunc_name_hint="interleave_phases")
    return assigner.emit(placed, int(shape[1]))


def _unary(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    if not assigner.is_blocked(call.args[0]):
        return None
    source = assigner.blocked[call.args[0]]
    return assigner.emit(ir.Call(call.op, [source.expr, *call.args[1:]], call.attrs), source.channels)


def _binary(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    left, right = call.args
    channels = feature_map_channels(call)
    if channels is None or not (assigner.is_blocked(left) or assigner.is_blocked(right)):
        return None
    operands = [_operand(assigner, arg, channels) for arg in (left, right)]
    if None in operands:
        return None
    return assigner.emit(ir.Call(call.op, operands, call.attrs), channels)


def _operand(assigner: LayoutAssigner, arg: relax.Expr, channels: int) -> relax.Expr | None:
    """``arg`` so that it broadcasts over blocked maps of ``channels`` channels; None if it cannot."""
    value = constant_value(arg)
    if value is not None:
        packed = layout.pack_operand(value, channels, assigner.block)
        return None if packed is None else constant(packed)
    if feature_map_channels(arg) == channels:
        blocked = assigner.as_blocked(arg)
        return None if blocked is None else blocked.expr
    if feature_map_channels(arg) == 1:
        return relax.op.expand_dims(assigner.visit_expr(arg), 4)
    return None


def _pool(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    if not assigner.is_blocked(call.args[0]) or call.attrs.layout != "NCHW":
        return None
    source = assigner.blocked[call.args[0]]
    operator, attributes = _POOLS[call.op.name]
    values = {name: getattr(call.attrs, name) for name in attributes}
    return assigner.emit(operator(source.expr, layout=f"NCHW{assigner.block}c", **values), source.channels)


def _repeat(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    return _unary(assigner, call) if call.attrs.axis is not None and int(call.attrs.axis) in (2, 3) else None


def _mean(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    axes = sorted(int(axis) % 4 for axis in call.attrs.axis or ())
    if axes != [2, 3] or not call.attrs.keepdims or not assigner.is_blocked(call.args[0]):
        return None
    source = assigner.blocked[call.args[0]]
    return assigner.emit(relax.op.mean(source.expr, [2, 3], keepdims=True), source.channels)


def _concat(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    parts = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
    axis, channels = int(call.attrs.axis), feature_map_channels(call)
    if axis not in (0, 1) or channels is None or not any(map(assigner.is_blocked, parts)):
        return None
    extents = [feature_map_channels(part) or 1 for part in parts]
    within_blocks = axis == 1 and any(extent % assigner.block for extent in extents)
    unit = lanes_of_unit(extents, assigner.block)
    if within_blocks and unit is None:
        return None
    blocked = [part.expr for part in map(assigner.as_blocked, parts) if part is not None]
    if len(blocked) < len(parts):
        return None
    if not within_blocks:
        return assigner.emit(relax.op.concat(blocked, axis), channels)
    return assigner.emit(assigner.builder_.call_te(concat_nchwc, blocked, extents, unit), channels)


def _strided_slice(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    is_of_images = isinstance(call.args[1], relax.Tuple) and [int(a) for a in call.args[1].fields] == [0]
    return _unary(assigner, call) if is_of_images else None


# Of a zero, which idle lanes mostly hold, the others make an infinity.
_FINITE_OF_ZERO = UNARY - {"relax.log", "relax.rsqrt"}
_WINDOW = ("pool_size", "strides", "padding", "dilation", "ceil_mode", "count_include_pad")
_POOLS: dict[str, tuple[Callable[..., relax.Expr], Sequence[str]]] = {
    "relax.nn.max_pool2d": (relax.op.nn.max_pool2d, _WINDOW),
    "relax.nn.avg_pool2d": (relax.op.nn.avg_pool2d, _WINDOW),
    "relax.nn.adaptive_avg_pool2d": (relax.op.nn.adaptive_avg_pool2d, ("output_size",)),
}

_RULES: dict[str, LayoutRule] = {
    "relax.nn.conv2d": blocked_conv2d,
    "relax.call_tir": _interleaving,
    "relax.mean": _mean,
    "relax.repeat": _repeat,
    "relax.concat": _concat,
    "relax.strided_slice": _strided_slice,
    **dict.fromkeys(_FINITE_OF_ZERO, _unary),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(_POOLS, _pool),
}
