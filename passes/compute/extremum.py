"""The largest or smallest element over any axes, of floating-point numbers.

TVM's own definitions begin with the number that is farthest from infinite, and so lose infinities.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from .rows import Reducer


def extremum(x: te.Tensor, axes: Sequence[int], shape: Sequence[tirx.Expr], reducer: Reducer) -> te.Tensor:
    """``x`` reduced over ``axes`` to ``shape``, in which these have a single element or are left out."""
    reduced = {axis: te.reduce_axis((0, x.shape[axis]), name=f"r{axis}") for axis in axes}
    keepdims = len(shape) == len(x.shape)

    def element(*index: tirx.Expr) -> tirx.Expr:
        kept = iter([i for axis, i in enumerate(index) if not keepdims or axis not in reduced])
        place = [reduced[axis] if axis in reduced else next(kept) for axis in range(len(x.shape))]
        return reducer.reduce(x(*place), axis=list(reduced.values()))

    return te.compute(shape, element, name="extremum")
