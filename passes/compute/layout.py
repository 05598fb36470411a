"""Packing of activations and weights into blocked layouts."""

from __future__ import annotations

import numpy as np
from tvm import te, tirx

from .divisors import divisors
from .pairs import interleave_pairs, is_bfloat16

Array = np.ndarray

MOST_MERGED = 2
"""Up to this many times a block's groups are merged: vectors gain more than the zeros between them cost."""


def pack_nchwc(x: te.Tensor, block: int) -> te.Tensor:
    """[N, C, H, W] to [N, C/block, H, W, block]; lanes beyond C are zero."""
    N, C, H, W = x.shape
    return te.compute(
        (N, tirx.floordiv(C + block - 1, block), H, W, block),
        lambda n, co, h, w, v: _load_channel(x, n, co * block + v, h, w),
        name="pack_nchwc",
    )


def _load_channel(x: te.Tensor, n: tirx.Expr, c: tirx.Expr, h: tirx.Expr, w: tirx.Expr) -> tirx.Expr:
    return tirx.if_then_else(c < x.shape[1], x[n, c, h, w], tirx.const(0, x.dtype))


def unpack_nchwc(x: te.Tensor, channels: int) -> te.Tensor:
    """[N, C/block, H, W, block] to [N, C, H, W]: the inverse of ``pack_nchwc``."""
    N, _, H, W, block = x.shape
    return te.compute(
        (N, channels, H, W),
        lambda n, c, h, w: x[n, c // block, h, w, c % block],
        name="unpack_nchwc",
    )


def pad_channels(array: Array, axis: int, block: int, fill: float = 0.0) -> Array:
    """``array`` with ``axis`` padded at its end to a multiple of ``block``."""
    missing = -array.shape[axis] % block
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, missing)
    return np.pad(array, widths, constant_values=fill) if missing else array


def pack_channel_vector(array: Array, block: int, fill: float = 0.0) -> Array:
    """Per-channel constants [1 or N, C, h, w] to [1 or N, C/block, h, w, block]."""
    padded = pad_channels(array, 1, block, fill)
    N, C, H, W = padded.shape
    return np.ascontiguousarray(padded.reshape(N, C // block, block, H, W).transpose(0, 1, 3, 4, 2))


def groups_to_merge(groups: int, out_channels: int, block: int) -> int | None:
    """How many neighbouring groups of ``out_channels`` fill whole blocks; None if zeros would prevail."""
    merged = next((count for count in divisors(groups) if count * out_channels % block == 0), groups)
    return merged if merged <= MOST_MERGED * block else None


def pack_operand(value: Array, channels: int, block: int) -> Array | None:
    """A constant so that it broadcasts over blocked maps of ``channels`` channels; None if it cannot."""
    if value.size == 1:
        return value.reshape(())
    if value.ndim > 4:
        return None
    value = value.reshape((1,) * (4 - value.ndim) + value.shape)
    if value.shape[1] == channels:
        # One, not zero, so that a division leaves no infinities in the idle lanes.
        return pack_channel_vector(value, block, fill=1)
    return value[..., None] if value.shape[1] == 1 else None


def merge_groups(weight: Array, groups: int, merged: int) -> Array:
    """[O, I, R, S] of ``groups`` groups to [O, merged * I, R, S]: ``merged`` neighbours become one group.

    The weights between channels of different groups are zero.
    """
    O, I, R, S = weight.shape  # noqa: E741 - the layout's own letters
    diagonal = np.zeros((groups // merged, merged, O // groups, merged, I, R, S), weight.dtype)
    by_group = weight.reshape(groups // merged, merged, O // groups, I, R, S)
    for group in range(merged):
        diagonal[:, group, :, group] = by_group[:, group]
    return diagonal.reshape(O, merged * I, R, S)


def pack_conv2d_weight(weight: Array, block: int, depth: int = 2) -> Array:
    """[O, I, R, S] to [O/block, R, S, I, block], the order in which a convolution reads it.

    bfloat16 becomes pairs of input channels, [O/block, R, S, I/2, block], with I padded to a multiple of
    ``depth`` (``pairs.py``).
    """
    weight = pad_channels(weight, 1, depth) if is_bfloat16(weight) else weight
    padded = pad_channels(weight, 0, block)
    O, I, R, S = padded.shape  # noqa: E741 - the layout's own letters
    packed = np.ascontiguousarray(padded.reshape(O // block, block, I, R, S).transpose(0, 3, 4, 2, 1))
    return interleave_pairs(packed, 3) if is_bfloat16(weight) else packed


def pack_depthwise_weight(weight: Array, block: int) -> Array:
    """[C, 1, R, S] to [C/block, R, S, block]."""
    padded = pad_channels(weight, 0, block)
    C, _, R, S = padded.shape
    return np.ascontiguousarray(padded.reshape(C // block, block, R, S).transpose(0, 2, 3, 1))


def pack_matmul_weight(weight: Array, block: int, depth: int = 2) -> Array:
    """[K, N] to [N/block, K, block]: panels of ``block`` columns.

    bfloat16 becomes pairs of rows in steps of ``depth``, [N/block, ceil(K/depth) * depth/2, block]
    (``pairs.py``).
    """
    padded = pad_channels(weight, 1, block)
    K, N = padded.shape
    packed = np.ascontiguousarray(padded.reshape(K, N // block, block).transpose(1, 0, 2))
    return interleave_pairs(packed, 1, depth) if is_bfloat16(weight) else packed
