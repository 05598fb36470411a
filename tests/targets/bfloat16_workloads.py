"""Products of bfloat16 with their results in float64; operands are rounded before either side sees them."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes  # noqa: F401 - registers bfloat16 with NumPy
import numpy as np
from tvm import relax

from tests.targets.kernel_workloads import Workload
from tests.targets.numpy_reference import Window, conv2d


def rounded(array: np.ndarray, dtype: str = "bfloat16") -> np.ndarray:
    return array.astype(np.dtype(dtype))


def scores(
    queries: np.ndarray, keys: np.ndarray, templates: frozenset[str], shape: Sequence[int | str]
) -> Workload:
    """Queries times keys, [batch, tokens, heads, width], read through the transposes that split the heads."""
    return Workload(
        f"scores of {shape}",
        lambda a, b: relax.op.matmul(
            relax.op.permute_dims(a, [0, 2, 1, 3]),
            relax.op.permute_dims(b, [0, 2, 3, 1]),
            out_dtype="float32",
        ),
        [queries, keys],
        np.einsum("bthc,bshc->bhts", queries.astype(np.float64), keys.astype(np.float64)),
        templates,
        [shape, shape],
    )


def convolution(
    x: np.ndarray,
    weight: np.ndarray,
    window: Window,
    templates: frozenset[str],
    shape: Sequence[int | str],
    groups: int = 1,
) -> Workload:
    """Of ``x``, whose extents are known to the compiler as far as ``shape`` says."""
    return Workload(
        f"{shape} = {x.shape} * {weight.shape}, {window}, groups {groups}",
        lambda data: relax.op.nn.conv2d(
            data,
            relax.const(weight, weight.dtype.name),
            strides=window.strides,
            padding=window.padding,
            dilation=window.dilation,
            groups=groups,
            out_dtype="float32",
        ),
        [x],
        conv2d(x, weight, window, groups),
        templates,
        [shape],
    )
