"""What the type of a tensor says."""

from __future__ import annotations

import pytest
from tvm import relax, tirx

from relaxc.passes.tensor_types import bytes_of, element_type, item_bytes, static_shape


@pytest.mark.parametrize(("dtype", "nbytes"), [("bool", 1), ("bfloat16", 2), ("float32", 4), ("int64", 8)])
def test_an_element_has_a_type_and_bytes(dtype: str, nbytes: int) -> None:
    tensor = relax.Var("x", relax.TensorType([2, 3], dtype))
    assert element_type(tensor) == dtype
    assert item_bytes(tensor) == nbytes
    assert bytes_of(tensor.ty) == 6 * nbytes


def test_a_tuple_has_the_bytes_of_its_fields() -> None:
    fields = [relax.TensorType([5], "float32"), relax.TensorType([], "int8")]
    assert bytes_of(relax.TupleType([fields[0], relax.TupleType(fields)])) == 41


def test_extents_are_static_if_all_are_numbers() -> None:
    assert static_shape(relax.TensorType([2, 3], "float32")) == [2, 3]
    assert static_shape(relax.TensorType([], "float32")) == []
    assert static_shape(relax.TensorType([2, tirx.Var("n", "int64")], "float32")) is None
    assert static_shape(relax.TensorType(ndim=2, dtype="float32")) is None
    assert static_shape(relax.TupleType([])) is None
