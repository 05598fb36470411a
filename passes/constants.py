"""Reading and writing of the tensor constants in a Relax expression."""

from __future__ import annotations

import ml_dtypes  # noqa: F401 - registers bfloat16 and the float8 types with NumPy
import numpy as np
from tvm import ir, relax, runtime


def constant_value(expr: relax.Expr) -> np.ndarray | None:
    """The array behind a tensor constant, or None where ``expr`` is something else."""
    if isinstance(expr, ir.GenericConst) and isinstance(expr.value, runtime.Tensor):
        return np.asarray(expr.value.numpy())
    return None


def constant(array: np.ndarray) -> relax.Expr:
    """A tensor constant that holds ``array``."""
    # TVM would narrow float64 and int64 if it were not told the type, and
    # NumPy's ascontiguousarray would make a vector of a scalar.
    return relax.const(np.asarray(array, order="C"), array.dtype.name)


def channel_vector(expr: relax.Expr, channels: int) -> np.ndarray | None:
    """A constant that broadcasts over [N, C, H, W] by channel alone, as an array of C values.

    Scalars and single-element tensors are repeated. None where ``expr`` is anything else.
    """
    value = constant_value(expr)
    if value is None or value.ndim > 4:
        return None
    if value.size == 1:
        return np.full(channels, value.reshape(()))
    shape = (1,) * (4 - value.ndim) + value.shape
    return value.reshape(channels) if shape == (1, channels, 1, 1) else None
