"""Assigns the blocked layout NCHW[b]c to whole regions of a graph.

Convolutions with constant weights start a region. Element-wise operators, pooling, concatenation and
means over the picture extend it; whatever else reads a blocked value gets it back in NCHW. Weights and
per-channel constants are packed here, at compile time. Where the channel count is not a multiple of the
block, the last block has idle lanes: they may hold anything, since reductions pass over them or multiply
them by zero (once they are cleared, where they need not be finite).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import tvm
from tvm import ir, relax, te, tirx

from .compute import conv2d, layout
from .compute.conv2d_tiles import conv2d_tiles, has_known_extents
from .compute.conv2d_window_pairs import choose_product, has_pairs_of_columns
from .compute.phases import interleave_phases_nchwc, phases_of
from .constants import constant, constant_value
from .elementwise import BINARY, UNARY
from .operator_name import operator_name
from .tensor_types import element_type

FEW_CHANNELS = 4
"""Inputs with at most this many channels are read as they are: packing would mostly add idle lanes."""
NARROW = "bfloat16"
"""Dot products of this type are taken in pairs and added up in float32."""


@dataclass(frozen=True)
class Blocked:
    """A value in NCHW[b]c.

    Attributes:
        expr: [N, ceil(C / b), H, W, b].
        channels: C, without the idle lanes.
    """

    expr: relax.Expr
    channels: int


def assign_layouts(mod: tvm.IRModule, block: int, depth: int = 2) -> tvm.IRModule:
    """The pass; ``block`` is the number of channels in a block, a vector's lanes.

    Convolutions of bfloat16 take ``depth`` channels in a step.
    """
    for name, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            assigner = LayoutAssigner(mod, block, depth)
            assigner.builder_.update_func(name, assigner.visit_expr(function))
            mod = assigner.builder_.get()
    return relax.transform.DeadCodeElimination()(mod)


@relax.expr_functor.mutator
class LayoutAssigner(relax.PyExprMutator):  # type: ignore[misc]
    """Walks the bindings in order, keeping for each old variable the blocked value that stands for it."""

    def __init__(self, mod: tvm.IRModule, block: int, depth: int) -> None:
        super().__init__(mod)
        self.block = block
        self.depth = depth
        self.idle_lanes_are_finite = True
        self.blocked: dict[relax.Var, Blocked] = {}
        self.plain: dict[relax.Var, relax.Expr] = {}
        self.packed: dict[relax.Var, Blocked] = {}
        self.parts: dict[relax.Var, list[Blocked]] = {}

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        value = binding.value
        if isinstance(value, relax.If):
            self._materialise(relax.analysis.free_vars(value))
        parts = _split(self, binding)
        if parts is not None:
            self.parts[binding.var] = parts
            return
        result = self._blocked_value(value)
        if result is None:
            super().visit_var_binding_(binding)
            return
        self.blocked[binding.var] = result
        if not isinstance(binding.var, relax.DataflowVar):
            in_dataflow = self.builder_.current_block_is_dataflow()
            emit = self.builder_.emit_output if in_dataflow else self.builder_.emit
            self.set_var_remap(binding.var, emit(self._unpacked(result)))

    def visit_dataflow_block_(self, block: relax.DataflowBlock) -> relax.DataflowBlock:
        with self._scope():
            return super().visit_dataflow_block_(block)

    def visit_seq_expr_(self, sequence: relax.SeqExpr) -> relax.Expr:
        with self._scope():
            return super().visit_seq_expr_(sequence)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        """Forgets at its end what was bound within: nothing outside can see it."""
        before = self.blocked, self.plain, self.packed, self.parts
        self.blocked, self.plain, self.packed, self.parts = (dict(values) for values in before)
        try:
            yield
        finally:
            self.blocked, self.plain, self.packed, self.parts = before

    def _blocked_value(self, value: relax.Expr) -> Blocked | None:
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.parts:
            return self.parts[value.tuple_value][int(value.index)]
        rule = _RULES.get(operator_name(value))
        return None if rule is None else rule(self, value)

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> relax.Expr:
        if var in self.parts:
            return relax.Tuple([self.builder_.emit(self._unpacked(part)) for part in self.parts[var]])
        return self.in_nchw(var) if var in self.blocked else super().visit_dataflow_var_(var)

    def in_nchw(self, var: relax.Var) -> relax.Expr:
        """The unblocked value of ``var``."""
        if var not in self.plain:
            self.plain[var] = self.builder_.emit(self._unpacked(self.blocked[var]))
        return self.plain[var]

    def _unpacked(self, value: Blocked) -> relax.Expr:
        return self.builder_.call_te(layout.unpack_nchwc, value.expr, value.channels)

    def _materialise(self, variables: Sequence[relax.Var]) -> None:
        for var in variables:
            if var in self.blocked:
                self.in_nchw(var)

    def emit(self, expr: relax.Expr, channels: int) -> Blocked:
        """Binds ``expr``, a blocked tensor."""
        if isinstance(expr, ir.Call) and expr.op in _DIVERGING:
            self.idle_lanes_are_finite = False
        return Blocked(self.builder_.emit(expr), channels)

    def is_blocked(self, expr: relax.Expr) -> bool:
        """Whether ``expr``, an operand of the old function, lives in the blocked layout."""
        return isinstance(expr, relax.Var) and expr in self.blocked

    def as_blocked(self, expr: relax.Expr) -> Blocked | None:
        """The operand ``expr`` of the old function in the blocked layout; None if it has no such form."""
        if self.is_blocked(expr):
            return self.blocked[expr]
        channels = feature_map_channels(expr)
        if channels is None or not isinstance(expr, relax.Var):
            return None
        if expr not in self.packed:
            plain = self.visit_expr(expr)
            packed = self.builder_.call_te(layout.pack_nchwc, plain, self.block)
            self.packed[expr] = self.emit(packed, channels)
        return self.packed[expr]


def _interleaving(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    """Of a transposed convolution's phases, each of which must begin with a block of its own."""
    phases = phases_of(assigner.builder_.get()[call.args[0]])
    if phases is None or phases.channels % assigner.block or not assigner.is_blocked(call.args[1].fields[0]):
        return None
    source, shape = assigner.blocked[call.args[1].fields[0]].expr, list(call.ty.shape)
    interleave = partial(interleave_phases_nchwc, phases=phases, shape=shape)
    placed = assigner.builder_.call_te(interleave, source, primfunc_name_hint="interleave_phases")
    return assigner.emit(placed, int(shape[1]))


LayoutRule = Callable[[LayoutAssigner, ir.Call], "Blocked | None"]


def feature_map_channels(value: relax.Expr | relax.Type) -> int | None:
    """C of a value typed [N, C, H, W], or of such a type, with a known C; None otherwise."""
    shape = getattr(value if isinstance(value, relax.Type) else value.ty, "shape", None)
    if shape is None or len(shape) != 4 or not isinstance(shape[1], tirx.IntImm):
        return None
    return int(shape[1])


def _conv2d(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    attrs, weight = call.attrs, constant_value(call.args[1])
    channels = feature_map_channels(call.args[0])
    if weight is None or channels is None or (attrs.data_layout, attrs.kernel_layout) != ("NCHW", "OIHW"):
        return None
    if element_type(call) != _sum_type(weight):
        return None
    (stride_h, stride_w), (dilation_h, dilation_w) = attrs.strides, attrs.dilation
    top, left, bottom, right = attrs.padding
    geometry = conv2d.Conv2dGeometry(
        (int(stride_h), int(stride_w)),
        (int(top), int(left), int(bottom), int(right)),
        (int(dilation_h), int(dilation_w)),
        int(attrs.groups),
    )
    if geometry.groups == 1:
        return _dense_conv2d(assigner, call.args[0], weight, geometry)
    return _grouped_conv2d(assigner, call.args[0], weight, geometry)


def _dense_conv2d(
    assigner: LayoutAssigner, data: relax.Expr, weight: np.ndarray, geometry: conv2d.Conv2dGeometry
) -> Blocked | None:
    narrow = weight.dtype.name == NARROW
    few = weight.shape[1] <= FEW_CHANNELS and not assigner.is_blocked(data)
    tiles = narrow and assigner.depth > 2 and has_known_extents(data)
    if few and narrow and has_pairs_of_columns(weight, geometry):
        packed, product = choose_product(weight, assigner.block, tiles)
        source = assigner.visit_expr(data)
        return _convolve(assigner, product, source, constant(packed), geometry, weight.shape[0])
    blocked = None if few and not narrow else assigner.as_blocked(data)
    if narrow and blocked is None:
        return None
    source = assigner.visit_expr(data) if blocked is None else blocked.expr
    clear = partial(conv2d_tiles, channels=weight.shape[1], clear=not assigner.idle_lanes_are_finite)
    product = clear if tiles else conv2d.conv2d_nchwc
    packed = layout.pack_conv2d_weight(weight, assigner.block, assigner.depth if tiles else 2)
    return _convolve(assigner, product, source, constant(packed), geometry, weight.shape[0])


def _grouped_conv2d(
    assigner: LayoutAssigner, data: relax.Expr, weight: np.ndarray, geometry: conv2d.Conv2dGeometry
) -> Blocked | None:
    out_channels, group_channels = weight.shape[:2]
    if group_channels == 1 and out_channels == geometry.groups:
        return _depthwise_conv2d(assigner, data, weight, geometry)
    merged = layout.groups_to_merge(geometry.groups, out_channels // geometry.groups, assigner.block)
    if merged is None:
        return None
    weight = layout.merge_groups(weight, geometry.groups, merged)
    geometry = replace(geometry, groups=geometry.groups // merged)
    if geometry.groups == 1:
        return _dense_conv2d(assigner, data, weight, geometry)
    source = assigner.as_blocked(data)
    if source is None:
        return None
    packed = constant(layout.pack_conv2d_weight(weight, assigner.block))
    return _convolve(assigner, conv2d.conv2d_nchwc, source.expr, packed, geometry, out_channels)


def _depthwise_conv2d(
    assigner: LayoutAssigner, data: relax.Expr, weight: np.ndarray, geometry: conv2d.Conv2dGeometry
) -> Blocked | None:
    source = assigner.as_blocked(data)
    if source is None:
        return None
    # Multiplied in float32: there is nothing to add up in a dot product.
    packed = constant(layout.pack_depthwise_weight(weight.astype(_sum_type(weight)), assigner.block))
    return _convolve(assigner, conv2d.depthwise_conv2d_nchwc, source.expr, packed, geometry, weight.shape[0])


def _sum_type(operand: np.ndarray) -> str:
    """The type in which products of ``operand`` are added up."""
    return "float32" if operand.dtype.name == NARROW else operand.dtype.name


def _convolve(
    assigner: LayoutAssigner,
    compute: Callable[..., te.Tensor],
    source: relax.Expr,
    weight: relax.Expr,
    geometry: conv2d.Conv2dGeometry,
    channels: int,
) -> Blocked:
    call = assigner.builder_.call_te(
        partial(compute, geometry=geometry),
        source,
        weight,
        primfunc_name_hint=(compute.func if isinstance(compute, partial) else compute).__name__,
        primfunc_attrs={conv2d.GEOMETRY: geometry.as_attribute()},
    )
    return assigner.emit(call, channels)


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
    if axis == 1 and any((feature_map_channels(part) or 1) % assigner.block for part in parts):
        return None
    blocked = [part.expr for part in map(assigner.as_blocked, parts) if part is not None]
    return assigner.emit(relax.op.concat(blocked, axis), channels) if len(blocked) == len(parts) else None


def _strided_slice(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    is_of_images = isinstance(call.args[1], relax.Tuple) and [int(a) for a in call.args[1].fields] == [0]
    return _unary(assigner, call) if is_of_images else None


def _split(assigner: LayoutAssigner, binding: relax.VarBinding) -> list[Blocked] | None:
    """The parts of a blocked value that is split between blocks; None for any other binding."""
    call = binding.value
    if not isinstance(call, ir.Call) or call.op != _SPLIT or not isinstance(binding.var, relax.DataflowVar):
        return None
    channels = [feature_map_channels(field) for field in call.ty.fields]
    whole_blocks = all(c is not None and c % assigner.block == 0 for c in channels)
    if int(call.attrs.axis) != 1 or not whole_blocks or not assigner.is_blocked(call.args[0]):
        return None
    source, begin, parts = assigner.blocked[call.args[0]], 0, []
    for extent in (c for c in channels if c is not None):
        first, last = begin // assigner.block, (begin + extent) // assigner.block
        part = relax.op.strided_slice(source.expr, axes=[1], begin=[first], end=[last])
        parts.append(assigner.emit(part, extent))
        begin += extent
    return parts


_DIVERGING = [ir.Op.get(f"relax.{name}") for name in ("divide", "power", "sqrt")]
_SPLIT = ir.Op.get("relax.split")
# Of a zero, which idle lanes mostly hold, the others make an infinity.
_FINITE_OF_ZERO = UNARY - {"relax.log", "relax.rsqrt"}
_WINDOW = ("pool_size", "strides", "padding", "dilation", "ceil_mode", "count_include_pad")
_POOLS: dict[str, tuple[Callable[..., relax.Expr], Sequence[str]]] = {
    "relax.nn.max_pool2d": (relax.op.nn.max_pool2d, _WINDOW),
    "relax.nn.avg_pool2d": (relax.op.nn.avg_pool2d, _WINDOW),
    "relax.nn.adaptive_avg_pool2d": (relax.op.nn.adaptive_avg_pool2d, ("output_size",)),
}

_RULES: dict[str, LayoutRule] = {
    "relax.nn.conv2d": _conv2d,
    "relax.call_tir": _interleaving,
    "relax.mean": _mean,
    "relax.repeat": _repeat,
    "relax.concat": _concat,
    "relax.strided_slice": _strided_slice,
    **dict.fromkeys(_FINITE_OF_ZERO, _unary),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(_POOLS, _pool),
}
