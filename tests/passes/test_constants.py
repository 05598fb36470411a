"""Tensor constants keep their types, and per-channel ones are recognised by their shape."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tvm import relax

from relaxc.passes.constants import channel_vector, constant, constant_value


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "int64", "int32", "int8", "uint8", "bool", ml_dtypes.bfloat16]
)
def test_a_constant_keeps_its_type(dtype: str) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    expr = constant(array)
    assert str(expr.ty.dtype.dtype) == array.dtype.name
    value = constant_value(expr)
    assert value is not None
    assert value.dtype == array.dtype
    np.testing.assert_array_equal(value, array)


def test_what_is_no_constant_has_no_value() -> None:
    assert constant_value(relax.Var("x", relax.TensorType((2,), "float32"))) is None


@pytest.mark.parametrize(
    ("shape", "per_channel"),
    [
        ((1, 4, 1, 1), True),
        ((4, 1, 1), True),
        ((), True),
        ((1, 1), True),
        ((4, 1), False),
        ((4,), False),
        ((2, 4, 1, 1), False),
        ((1, 4, 1, 2), False),
        ((1, 1, 4, 1, 1), False),
    ],
)
def test_a_channel_vector_varies_over_channels_alone(shape: tuple[int, ...], per_channel: bool) -> None:
    vector = channel_vector(constant(np.full(shape, 3, np.float32)), 4)
    assert (vector is not None) == per_channel
    if vector is not None:
        np.testing.assert_array_equal(vector, np.full(4, 3, np.float32))
