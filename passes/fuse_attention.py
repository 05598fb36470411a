"""Attention as one kernel: the matrix of scores is never in memory as a whole.

Recognised is softmax(scores) v with scores q k^T, scaled, a mask added or chosen by a condition.
Queries, keys and values are read through the transposes, slices and scales that made them, and the result is
written in the order in which a transpose behind would put it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import tvm
from tvm import ir, relax, te, tirx

from .compute.attention import AttentionOperands, attention, with_widened_keys
from .compute.attention_pairs import attention_pairs
from .compute.widening import STORED, rounded, widen
from .constants import constant_value
from .operand_view import View, is_one, same, scaled, view_of
from .rewrite import CallRewriter, CallRule, rewrite_calls
from .tensor_types import element_type

WIDE = "float32"
FEWEST_QUERIES = 8
"""With fewer, most lanes of a block would be idle, and the products are bound by memory anyway."""
VECTORS = (1, 2, 4)
"""Of queries in a block, from which to choose. With three, TVM finds no plain addresses."""
SCORES_BYTES = 1 << 18
"""A block's scores should stay in the second-level cache, twice."""


@dataclass(frozen=True)
class Mask:
    """One step between the products and the softmax.

    Attributes:
        tensor: added to the scores, or the condition; broadcasts to them.
        other: the score where the condition does not hold; None where ``tensor`` is added.
        inverted: whether ``other`` is the score where the condition does hold.
    """

    tensor: relax.Expr
    other: float | None = None
    inverted: bool = False

    def adjust(self, tensor: te.Tensor, index: Sequence[tirx.Expr], score: tirx.Expr) -> tirx.Expr:
        """The score at ``index`` behind this step."""
        aligned = index[len(index) - len(tensor.shape) :]
        place = [0 if is_one(extent) else i for extent, i in zip(tensor.shape, aligned, strict=True)]
        value = tensor(*place)
        if self.other is None:
            return score + value
        chosen = (score, tirx.const(self.other, score.ty.dtype))
        return tirx.Select(value, *(chosen[::-1] if self.inverted else chosen))


@dataclass(frozen=True)
class Attention:
    """A match.

    Attributes:
        query, key, value: views [*batch, M, D], [*batch, D, N], [*batch, N, E].
        masks: in the order in which they apply.
    """

    query: View
    key: View
    value: View
    masks: tuple[Mask, ...]

    @property
    def rank(self) -> int:
        """Of the result."""
        return len(self.query.extents)

    def operands(self) -> list[relax.Expr]:
        """What the kernel reads."""
        return [self.query.source, self.key.source, self.value.source, *(mask.tensor for mask in self.masks)]

    def compute(self, *tensors: te.Tensor, axes: Sequence[int], lanes: int) -> te.Tensor:
        """The kernel's definition."""
        query, key, value, *masks = tensors
        narrow = str(query.dtype) != WIDE
        scale = self.query.scale * self.key.scale if narrow else 1.0
        views = [replace(v, scale=1.0) if narrow else v for v in (self.query, self.key, self.value)]

        def adjust(index: Sequence[tirx.Expr], score: tirx.Expr) -> tirx.Expr:
            score = score if scale == 1.0 else score * tirx.const(scale, score.ty.dtype)
            for mask, tensor in zip(self.masks, masks, strict=True):
                score = mask.adjust(tensor, index, score)
            return score

        *batch, queries, features = self.query.shape(query)
        keys, columns = self.value.shape(value)[-2:]
        operands = AttentionOperands(
            query=lambda index: widen(views[0].load(query, index)),
            key=lambda index: views[1].load(key, [*index[:-2], index[-1], index[-2]]),
            value=partial(views[2].load, value),
            query_in_rows=self.query.innermost() == self.rank - 1,
            key_in_rows=self.key.innermost() == self.rank - 2,
            value_in_rows=self.value.innermost() == self.rank - 1,
            adjust=adjust,
            batch=batch,
            queries=queries,
            keys=keys,
            features=features,
            columns=int(columns),
        )
        vectors = _vectors(queries, keys, lanes)
        if str(query.dtype) == STORED:
            return rounded(attention(with_widened_keys(operands), axes, lanes, vectors))
        definition = attention_pairs if narrow else attention
        return definition(operands, axes, lanes, vectors)


def fuse_attention(mod: tvm.IRModule, block: int, dtype: str = "float32") -> tvm.IRModule:
    """The pass; ``block`` is a vector's lanes, ``dtype`` that of queries, keys, values and results."""
    fusion = _Fusion(block, dtype)
    rules: dict[str, CallRule] = {"relax.matmul": fusion.matmul, "relax.permute_dims": fusion.permute}
    return rewrite_calls(mod, rules, absorb_single_use=True)


class _Fusion:
    """The rules, which remember what they have put in: a transpose behind it becomes part of it."""

    def __init__(self, block: int, dtype: str) -> None:
        self.block = block
        self.dtype = dtype
        self.kernels: dict[str, Attention] = {}

    def matmul(self, rewriter: CallRewriter, call: ir.Call) -> relax.Expr | None:
        match = _match(rewriter, call)
        if match is None or (self.dtype != WIDE and match.value.scale != 1.0):
            return None
        return self._emit(rewriter, match, range(match.rank))

    def permute(self, rewriter: CallRewriter, call: ir.Call) -> relax.Expr | None:
        result = rewriter.defining_call(call.args[0], "relax.astype")
        kernel = rewriter.defining_call(call.args[0] if result is None else result.args[0], "relax.call_tir")
        match = None if kernel is None else self.kernels.get(kernel.args[0].name_hint)
        if match is None or call.attrs.axes is None:
            return None
        axes = [int(axis) % match.rank for axis in call.attrs.axes]
        return self._emit(rewriter, match, axes) if axes[-1] == match.rank - 1 else None

    def _emit(self, rewriter: CallRewriter, match: Attention, axes: Sequence[int]) -> relax.Expr:
        compute = partial(match.compute, axes=list(axes), lanes=self.block)
        operands = match.operands()
        if self.dtype != WIDE:
            sources = [rewriter.builder_.emit(relax.op.astype(x, self.dtype)) for x in operands[:3]]
            operands[:3] = sources
        call = rewriter.builder_.call_te(compute, *operands, primfunc_name_hint="attention")
        self.kernels[call.args[0].name_hint] = match
        return call if self.dtype == WIDE else relax.op.astype(rewriter.builder_.emit(call), WIDE)


def _vectors(queries: tirx.Expr | int, keys: tirx.Expr | int, lanes: int) -> int:
    """Vectors of queries in a block: few idle lanes, long runs of arithmetic, scores fit in the cache."""
    if not isinstance(queries, int | tirx.IntImm):
        return 1
    most = VECTORS[-1]
    if isinstance(keys, int | tirx.IntImm):
        most = SCORES_BYTES // (int(keys) * lanes * 4)

    def cost(vectors: int) -> float:
        width = vectors * lanes
        return -(-int(queries) // width) * width * (1 + 0.08 / vectors)

    return min([vectors for vectors in VECTORS if vectors <= most] or [1], key=cost)


def _match(rewriter: CallRewriter, call: ir.Call) -> Attention | None:
    """The attention whose last product ``call`` is."""
    softmax = _softmax(rewriter, call.args[0])
    if softmax is None:
        return None
    scores, masks, scale = _through_masks(rewriter, softmax.args[0], call.args[0].ty.shape)
    product = rewriter.defining_call(scores, "relax.matmul")
    if product is None or not _is_regular(product, call):
        return None
    query, key, value = (view_of(rewriter, operand) for operand in (*product.args, call.args[1]))
    queries, columns = query.extents[-2], value.extents[-1]
    if (queries is not None and queries < FEWEST_QUERIES) or columns is None:
        return None
    return Attention(replace(query, scale=query.scale * scale), key, value, tuple(reversed(masks)))


def _softmax(rewriter: CallRewriter, weights: relax.Expr) -> ir.Call | None:
    """The softmax over the last axis that gave ``weights``, perhaps with other axes merged meanwhile."""
    reshaped = rewriter.defining_call(weights, "relax.reshape")
    inner = weights if reshaped is None else reshaped.args[0]
    softmax = rewriter.defining_call(inner, "relax.nn.softmax")
    if softmax is None or softmax.ty.shape is None or weights.ty.shape is None:
        return None
    last = int(softmax.attrs.axis) % int(softmax.ty.ndim) == int(softmax.ty.ndim) - 1
    return softmax if last and same(softmax.ty.shape[-1], weights.ty.shape[-1]) else None


def _through_masks(
    rewriter: CallRewriter, scores: relax.Expr, shape: Sequence[tirx.Expr]
) -> tuple[relax.Expr, list[Mask], float]:
    """What the scores were before masks and scale; the masks, the last one first; the scale.

    A scale counts only before all masks: behind one, it would be the mask's, too.
    """
    masks: list[Mask] = []
    scale = 1.0
    while True:
        reshaped = rewriter.defining_call(scores, "relax.reshape")
        if reshaped is not None and not masks and _equal(reshaped.args[0].ty.shape, shape):
            scores = reshaped.args[0]
        step = _mask_step(rewriter, scores, shape) if scale == 1.0 else None
        part = scaled(rewriter, scores)
        if step is not None:
            scores, mask = step
            masks.append(mask)
        elif part is not None:
            scores, scale = part[0], scale * part[1]
        else:
            return scores, masks, scale


def _mask_step(
    rewriter: CallRewriter, scores: relax.Expr, shape: Sequence[tirx.Expr]
) -> tuple[relax.Expr, Mask] | None:
    added = rewriter.defining_call(scores, "relax.add")
    if added is not None:
        for score, mask in (added.args, added.args[::-1]):
            if _equal(score.ty.shape, shape) and _computed(rewriter, score):
                return score, Mask(mask)
    chosen = rewriter.defining_call(scores, "relax.where")
    if chosen is None:
        return None
    for score, other, inverted in ((*chosen.args[1:], False), (*chosen.args[:0:-1], True)):
        value = constant_value(other)
        if value is not None and value.size == 1 and _equal(score.ty.shape, shape):
            return score, Mask(chosen.args[0], float(value.reshape(())), inverted)
    return None


def _computed(rewriter: CallRewriter, score: relax.Expr) -> bool:
    """Whether ``score`` may come from a product, rather than be a mask of full size."""
    ops: tuple[str, ...] = ("matmul", "multiply", "divide", "add", "where", "reshape")
    return any(rewriter.defining_call(score, f"relax.{op}") is not None for op in ops)


def _is_regular(product: ir.Call, call: ir.Call) -> bool:
    """Whether both products are in float32 and have the same batch axes on both sides."""
    operands = (*product.args, *call.args)
    if any(operand.ty.shape is None or element_type(operand) != "float32" for operand in operands):
        return False
    batches = [list(operand.ty.shape)[:-2] for operand in operands]
    return all(_equal(batch, batches[0]) for batch in batches)


def _equal(a: Sequence[tirx.Expr] | None, b: Sequence[tirx.Expr] | None) -> bool:
    if a is None or b is None:
        return False
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
