"""Made-up values for a model's inputs, for trying and timing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from ..runtime.errors import ShapeError
from ..runtime.input_check import describe
from ..runtime.signature import TensorSpec
from ..runtime.structures import is_sequence
from ..runtime.tensors import ElementType


class Fill(StrEnum):
    """What to fill inputs with."""

    RANDOM = "random"
    ZEROS = "zeros"
    ONES = "ones"


def sample_inputs(
    specs: Sequence[TensorSpec],
    shapes: Mapping[str, Sequence[int]],
    fill: Fill = Fill.RANDOM,
    seed: int = 0,
) -> dict[str, Any]:
    """An array for every input, a list of one for a sequence. Random numbers are normal; random integers
    are 0 or 1, which are valid token numbers and masks alike.

    Args:
        specs: the inputs.
        shapes: shapes of inputs with symbolic dimensions. What one shape says of a symbol holds for all.
        fill: the values.
        seed: of the random numbers; the same seed gives the same values.

    Raises:
        ShapeError: a name is unknown, a rank is wrong, or a symbolic dimension is left open.
    """
    extents = _bound_symbols(specs, shapes)
    generator = np.random.default_rng(seed)

    def value(spec: TensorSpec) -> Any:
        shape = _shape(spec, shapes, extents)
        array = _filled(ElementType.named(spec.dtype).numpy, shape, fill, generator)
        return [array] if is_sequence(spec) else array

    return {spec.name: value(spec) for spec in specs}


def _bound_symbols(specs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    by_name = {spec.name: spec for spec in specs}
    extents: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in by_name:
            raise ShapeError(
                f"there is no input {name!r} to shape; the inputs are {', '.join(by_name) or 'none'}"
            )
        spec = by_name[name]
        if len(shape) != len(spec.shape):
            given = ",".join(map(str, shape))
            raise ShapeError(
                f"input {name!r} is {describe(spec)}, of rank {len(spec.shape)}; got the shape {given}"
            )
        extents |= {
            dim: extent for dim, extent in zip(spec.shape, shape, strict=True) if isinstance(dim, str)
        }
    return extents


def _shape(
    spec: TensorSpec, shapes: Mapping[str, Sequence[int]], extents: Mapping[str, int]
) -> tuple[int, ...]:
    if spec.name in shapes:
        return tuple(shapes[spec.name])
    if open_dims := [dim for dim in spec.shape if isinstance(dim, str) and dim not in extents]:
        example = ",".join(str(dim) if isinstance(dim, int) else "1" for dim in spec.shape)
        raise ShapeError(
            f"input {spec.name!r} is {describe(spec)}: {', '.join(map(str, open_dims))} has no value; "
            f"pass --shape {spec.name}:{example}, for example"
        )
    return tuple(extents[dim] if isinstance(dim, str) else dim for dim in spec.shape)


def _filled(
    dtype: np.dtype[Any], shape: tuple[int, ...], fill: Fill, generator: np.random.Generator
) -> np.ndarray[Any, Any]:
    if fill is Fill.ZEROS:
        return np.zeros(shape, dtype)
    if fill is Fill.ONES:
        return np.ones(shape, dtype)
    if dtype.kind in "biu":
        return generator.integers(0, 2, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)
