"""Chains of a depthwise convolution and the pointwise ones around it become one kernel.

Such a chain, pointwise - depthwise - pointwise (an inverted residual; Sandler et al., "MobileNetV2", 2018) or
its last two, widens its map and narrows it again. In one kernel the wide map need never exist as a whole: a
thread computes some of its rows, and reads them while they are in its own cache. Stands behind the fusion of
kernels, so that biases, activations and residuals are parts of the convolutions already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import ir, relax, tirx
from tvm.s_tir import SBlock, SBlockRealize

from .compute import TILE_SLACK, WORKLOAD
from .rewrite import count_uses
from .tensor_types import element_type, static_shape

POINTWISE, DEPTHWISE = "conv2d_nchwc", "depthwise_conv2d_nchwc"
_CALL_TIR = ir.Op.get("relax.call_tir")
_MAP_AXES = 5
_COLUMNS = 3
"""Number of an anchor's axis that goes over the columns of its result."""


@dataclass(frozen=True)
class ChainExtents:
    """The size of a chain, in elements.

    Attributes:
        images: of the batch.
        narrow: channels that the first pointwise convolution reads; 0 where the chain has none.
        wide: channels of the depthwise convolution.
        out: channels of the result.
        height, width: of the map that the depthwise convolution reads.
        out_height, out_width: of the result.
        window_rows: of the depthwise convolution.
    """

    images: int
    narrow: int
    wide: int
    out: int
    height: int
    width: int
    out_height: int
    out_width: int
    window_rows: int


ChooseChain = Callable[[ChainExtents], bool]
"""Whether one kernel computes a chain faster than one for each of its convolutions."""


def never_fused(_extents: ChainExtents) -> bool:
    """Chooses a kernel for each convolution."""
    return False


def fuse_separable_conv2d(mod: tvm.IRModule, choose: ChooseChain) -> tvm.IRModule:
    """The pass: ``choose`` decides for every chain, and for the end of one that is better left apart."""
    builder = relax.BlockBuilder(mod)
    chains = 0
    for variable, function in mod.functions_items():
        if isinstance(function, relax.Function) and isinstance(function.body, relax.SeqExpr):
            found = list(_Chains(mod, function).chosen(choose))
            chains += len(found)
            if found:
                builder.update_func(variable, _with_chains(builder, function, found))
    if not chains:
        return mod
    # Composites are private functions that nothing calls once they are kernels.
    fused = relax.transform.FuseTIR()(builder.finalize())
    return relax.transform.DeadCodeElimination()(fused)


Chain = Sequence[relax.VarBinding]
"""The calls of its kernels, in order."""


@dataclass(frozen=True)
class _Stage:
    """A kernel that is one convolution with what was fused into it.

    Attributes:
        kind: ``POINTWISE`` or ``DEPTHWISE``.
        operand: number of the parameter that is convolved.
        anchor: the block that sums products.
    """

    kind: str
    operand: int
    anchor: SBlock


class _Chains:
    """The chains of a function."""

    def __init__(self, mod: tvm.IRModule, function: relax.Function) -> None:
        self.uses = count_uses(function)
        self.stages: dict[relax.Var, _Stage] = {}
        self.calls: dict[relax.Var, relax.VarBinding] = {}
        stages: dict[ir.GlobalVar, _Stage | None] = {}
        for binding in _inner_bindings(function):
            kernel = binding.value.args[0]
            if kernel not in stages:
                stages[kernel] = _stage(mod[kernel])
            stage = stages[kernel]
            if stage is None:
                continue
            operand = binding.value.args[1].fields[stage.operand]
            if _is_static_map(binding.var) and _is_static_map(operand):
                self.stages[binding.var], self.calls[binding.var] = stage, binding

    def chosen(self, choose: ChooseChain) -> Iterator[Chain]:
        taken: set[relax.Var] = set()
        for var, stage in self.stages.items():
            before = self._before(var, DEPTHWISE) if stage.kind == POINTWISE else None
            if before is None:
                continue
            first = self._before(before, POINTWISE)
            ends = [self.calls[before], self.calls[var]]
            chains = [[self.calls[first], *ends]] if first is not None and first not in taken else []
            chain = next((chain for chain in (*chains, ends) if choose(self._extents(chain))), None)
            if chain is not None:
                taken.add(var)
                yield chain

    def _before(self, var: relax.Var, kind: str) -> relax.Var | None:
        """What ``var`` is convolved from, if a stage of ``kind`` computes it for ``var`` alone."""
        source = self._operand(var)
        stage = self.stages.get(source) if isinstance(source, relax.Var) else None
        return source if stage is not None and stage.kind == kind and self.uses[source] == 1 else None

    def _operand(self, var: relax.Var) -> relax.Expr:
        return self.calls[var].value.args[1].fields[self.stages[var].operand]

    def _extents(self, chain: Chain) -> ChainExtents:
        depthwise, project = chain[-2].var, chain[-1].var
        source, result = _shape(self._operand(depthwise)), _shape(project)
        wide = _channels(_shape(depthwise))
        return ChainExtents(
            images=result[0],
            narrow=_channels(_shape(self._operand(chain[0].var))) if len(chain) > 2 else 0,
            wide=wide,
            out=_channels(result),
            height=source[2],
            width=source[3],
            out_height=result[2],
            out_width=result[3],
            window_rows=int(self.stages[depthwise].anchor.iter_vars[5].dom.extent),
        )


def _inner_bindings(function: relax.Function) -> Iterator[relax.VarBinding]:
    """The calls of kernels with one result in the dataflow blocks of ``function``."""
    for block in function.body.blocks:
        for binding in block.bindings if isinstance(block, relax.DataflowBlock) else ():
            value = getattr(binding, "value", None)
            called = isinstance(value, ir.Call) and value.op == _CALL_TIR and len(value.args) == 2
            if called and isinstance(binding.var.ty, relax.TensorType):
                yield binding


def _is_static_map(value: relax.Expr) -> bool:
    """Whether ``value`` is a map of known extents, with elements."""
    shape = static_shape(value.ty) or []
    return len(shape) == _MAP_AXES and 0 not in shape and element_type(value) == "float32"


def _shape(var: relax.Expr) -> tuple[int, ...]:
    return tuple(int(extent) for extent in var.ty.shape)


def _channels(shape: tuple[int, ...]) -> int:
    return shape[1] * shape[4]


def _stage(kernel: ir.BaseFunc) -> _Stage | None:
    """What ``kernel`` is, if it can be a part of a chain."""
    blocks: list[SBlock] = []
    tvm_ffi.structural_walk(kernel, (SBlock, blocks.append))
    anchors = [block for block in blocks if WORKLOAD in block.annotations]
    if len(anchors) != 1 or str(anchors[0].annotations[WORKLOAD]) not in (POINTWISE, DEPTHWISE):
        return None
    (anchor,) = anchors
    kind = str(anchor.annotations[WORKLOAD])
    source = anchor.reads[0].source if kind == POINTWISE else _unpadded(anchor.reads[0].source, blocks)
    operand = next((i for i, param in enumerate(kernel.params) if param.same_as(source)), None)
    if operand is None or (kind == POINTWISE and not _is_pointwise(anchor, source)):
        return None
    readers = [block for block in blocks if any(read.source.same_as(source) for read in block.reads)]
    return _Stage(kind, operand, anchor) if len(readers) == 1 else None


def _unpadded(buffer: tirx.Var, blocks: Sequence[SBlock]) -> tirx.Var:
    """What the block that makes ``buffer`` by padding reads; ``buffer`` itself where there is none."""
    for block in blocks:
        if block.name_hint.startswith("pad") and block.writes[0].source.same_as(buffer):
            return block.reads[0].source
    return buffer


def _is_pointwise(anchor: SBlock, source: tirx.Var) -> bool:
    """Whether ``anchor`` takes the map ``source`` as one row (``compute/conv2d.py``)."""
    rows, columns = (axis.dom.extent for axis in anchor.iter_vars[_COLUMNS - 1 : _COLUMNS + 1])
    extents = [rows, columns, *source.shape]
    if len(source.shape) != _MAP_AXES or not all(isinstance(extent, tirx.IntImm) for extent in extents):
        return False
    one, pixels, _, _, height, width, _ = map(int, extents)
    return one == 1 and pixels == height * width + TILE_SLACK and height != 1


def _with_chains(
    builder: relax.BlockBuilder, function: relax.Function, chains: Sequence[Chain]
) -> relax.Function:
    """``function`` with a call of one composite function in the place of the last call of each chain."""
    calls = {chain[-1].var: _composite_call(builder, chain) for chain in chains}
    inner = {binding.var for chain in chains for binding in chain[:-1]}
    blocks = []
    for block in function.body.blocks:
        kept = [binding for binding in block.bindings if binding.var not in inner]
        bindings = [_replaced(binding, calls) for binding in kept]
        blocks.append(type(block)(bindings))
    body = relax.SeqExpr(blocks, function.body.body)
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, attrs=function.attrs)


def _without_slack(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """``kernel``, a stage, without the columns by which a tile may overrun the edge of the result.

    Where no tile does, the place in the input that it reads need not be clamped in each step.
    """
    columns: list[tirx.Var] = []

    def cut_axis(realize: SBlockRealize) -> SBlockRealize:
        block = realize.block
        if WORKLOAD not in block.annotations:
            return realize
        columns.append(realize.iter_values[_COLUMNS])
        return SBlockRealize(realize.iter_values, realize.predicate, _with_axis_cut(block))

    def cut_loop(loop: tirx.For) -> tirx.For:
        if not any(loop.loop_var.same_as(column) for column in columns):
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent - TILE_SLACK, loop.kind, loop.body)

    axes_cut = tvm_ffi.structural_map(kernel, (SBlockRealize, cut_axis))
    return tvm_ffi.structural_map(axes_cut, (tirx.For, cut_loop))


def _with_axis_cut(block: SBlock) -> SBlock:
    axes = list(block.iter_vars)
    columns = axes[_COLUMNS]
    domain = ir.Range.from_min_extent(columns.dom.min, columns.dom.extent - TILE_SLACK)
    axes[_COLUMNS] = tirx.IterVar(domain, columns.var, columns.iter_type, columns.thread_tag)

    def unclamped(least: tirx.Min) -> tirx.Expr:
        return least.a if columns.var.same_as(least.a) else least

    cut = SBlock(
        axes,
        block.reads,
        block.writes,
        block.name_hint,
        block.body,
        block.init,
        block.alloc_buffers,
        block.match_buffers,
        block.annotations,
    )
    return tvm_ffi.structural_map(cut, (tirx.Min, unclamped))


def _replaced(binding: relax.Binding, calls: Mapping[relax.Var, ir.Call]) -> relax.Binding:
    call = calls.get(binding.var)
    return binding if call is None else relax.VarBinding(binding.var, call)


def _composite_call(builder: relax.BlockBuilder, chain: Chain) -> ir.Call:
    """A call of a new function that calls the kernels of ``chain``, for TVM to make it one kernel."""
    inside: dict[relax.Expr, relax.Var] = {}
    arguments: list[relax.Expr] = []
    bindings = []
    for binding in chain:
        for argument in binding.value.args[1].fields:
            if argument not in inside:
                arguments.append(argument)
                inside[argument] = relax.Var(f"p{len(arguments)}", argument.ty)
        operands = [inside[argument] for argument in binding.value.args[1].fields]
        kernel = binding.value.args[0]
        stage = builder.add_func(_without_slack(builder.get()[kernel]), kernel.name_hint)
        call = relax.call_tir(stage, operands, out_ty=binding.var.ty)
        inside[binding.var] = (relax.DataflowVar if binding is not chain[-1] else relax.Var)(
            binding.var.name, binding.var.ty
        )
        bindings.append(relax.VarBinding(inside[binding.var], call))
    result = inside[chain[-1].var]
    composite = relax.Function(
        [inside[argument] for argument in arguments],
        relax.SeqExpr([relax.DataflowBlock(bindings)], result),
        result.ty,
        attrs=tvm.ir.DictAttrs({"Primitive": True}),
    )
    return ir.Call(builder.add_func(composite, "separable_conv2d"), arguments, ret_ty=result.ty)
