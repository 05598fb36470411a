"""The order of a kernel's scalar parameters: that in which the kernel first mentions them.

TVM orders them by address where it collects them in sets, so that the same model would give other kernels in
another process.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm_ffi
from tvm import tirx


def parameter_order(kernel: tirx.PrimFunc) -> list[int]:
    """The places of the parameters of ``kernel`` in their new order; buffers stay where they are."""
    order = list(range(len(kernel.params)))
    scalars = [place for place in order if not isinstance(kernel.params[place].ty, tirx.BufferType)]
    mentioned = _mentioned(kernel)
    by_mention = sorted(scalars, key=lambda place: mentioned.index(kernel.params[place]))
    for place, chosen in zip(scalars, by_mention, strict=True):
        order[place] = chosen
    return order


def with_parameter_order(kernel: tirx.PrimFunc, order: Sequence[int]) -> tirx.PrimFunc:
    """``kernel`` with its parameters in ``order``."""
    params = [kernel.params[place] for place in order]
    return tirx.PrimFunc(params, kernel.body, kernel.ret_type, kernel.attrs)


def _mentioned(kernel: tirx.PrimFunc) -> list[tirx.Var]:
    """The variables in the shapes of the buffers of ``kernel``, then in its body, then all parameters."""
    buffers = [param.ty for param in kernel.params if isinstance(param.ty, tirx.BufferType)]
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk([buffers, kernel.body], (tirx.Var, found.append))
    return [*found, *kernel.params]
