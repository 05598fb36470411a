"""Inputs for a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from ...runtime.errors import ShapeError
from ...runtime.signature import TensorSpec
from ..sample_inputs import sample_inputs

Arrays = dict[str, np.ndarray[Any, Any]]

# What a symbolic dimension is where nobody says: a batch of one, and enough of anything else.
_BATCH = 1
_EXTENT = 32


def run_time_inputs(model: onnx.ModelProto) -> list[str]:
    """The inputs that have no value in the file."""
    initialized = {initializer.name for initializer in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in initialized]


def complete_feed(
    model: onnx.ModelProto,
    specs: Sequence[TensorSpec],
    given: Mapping[str, np.ndarray[Any, Any]],
    shapes: Mapping[str, Sequence[int]],
    seed: int,
) -> Arrays:
    """A value for every input of a model: those that are given, and random ones.

    Args:
        model: the model.
        specs: the inputs that the artifact takes.
        given: values by name.
        shapes: of inputs without a value. A symbol that no value and no shape binds becomes 1 on the first
            axis of an input, 32 elsewhere.
        seed: of the random numbers.

    Raises:
        ShapeError: an input has become part of the artifact, and its value is not given; or a shape is wrong.
    """
    built_in = [n for n in run_time_inputs(model) if n not in given and n not in {s.name for s in specs}]
    if built_in:
        raise ShapeError(
            f"input {built_in[0]!r} is part of the artifact (it was static): give its value with --inputs"
        )
    known = {spec.name: given[spec.name].shape for spec in specs if spec.name in given}
    bound = {**known, **shapes}
    made_up = sample_inputs(specs, _all_shapes(specs, bound), seed=seed)
    return {**made_up, **given}


def _all_shapes(specs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """``shapes``, and default ones for the inputs with symbols that those leave open."""
    extents: dict[str, int] = {}
    for spec in specs:
        for dim, extent in zip(spec.shape, shapes.get(spec.name, ()), strict=False):
            extents[str(dim)] = extent
    filled = dict(shapes)
    for spec in specs:
        if spec.name not in shapes:
            filled[spec.name] = tuple(_extent(dim, axis, extents) for axis, dim in enumerate(spec.shape))
    return filled


def _extent(dim: int | str, axis: int, extents: dict[str, int]) -> int:
    return dim if isinstance(dim, int) else extents.setdefault(dim, _EXTENT if axis else _BATCH)


def declared_specs(model: onnx.ModelProto) -> list[TensorSpec]:
    """The inputs as the file declares them, for models that do not compile.

    Raises:
        ShapeError: an input is no tensor, or its rank is unknown.
    """
    names = set(run_time_inputs(model))
    return [_declared_spec(value) for value in model.graph.input if value.name in names]


def _declared_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise ShapeError(f"input {value.name!r} has no declared shape: values for it cannot be made up")
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_d{axis}"
        for axis, dim in enumerate(tensor.shape.dim)
    )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorSpec(value.name, dims, dtype.name)
