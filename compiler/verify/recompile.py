"""Compiling models as an artifact was compiled."""

from __future__ import annotations

import json
from collections.abc import Sequence

import onnx

from ...runtime import Executable
from ...runtime.signature import TensorSpec
from .first_drift import Compile
from .reference import Feed
from .subgraphs import feed_of


def compiler_like(artifact: Executable, static: Feed) -> Compile:
    """A function that compiles models for the artifact's target, its precision, shapes and static values.

    Args:
        artifact: what to imitate; a model may have inputs that it has not.
        static: the values that became part of it.
    """
    from ..driver import compile

    metadata = artifact.metadata
    shapes = _fixed_shapes(artifact.inputs)

    def compile_alike(model: onnx.ModelProto) -> Executable:
        return compile(
            model,
            target=json.loads(metadata["target"]),
            shapes=feed_of(model, shapes),
            static_inputs=feed_of(model, static),
            precision=metadata["precision"],
        )

    return compile_alike


def compile_whole(model: onnx.ModelProto) -> Executable:
    """Compiles with the default options, for models of which there is no artifact."""
    from ..driver import compile

    return compile(model)


def _fixed_shapes(specs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """The shapes without symbols, which the model may have left open."""
    return {
        spec.name: tuple(int(dim) for dim in spec.shape)
        for spec in specs
        if all(isinstance(dim, int) for dim in spec.shape)
    }
