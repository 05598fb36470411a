"""Converters, one file an operator family. Importing this package registers all of them."""

from . import (
    activation,
    control_flow,
    convolution,
    creation,
    elementwise,
    indexing,
    matmul,
    normalization,
    padding,
    pooling,
    recurrent,
    reduction,
    resize,
    shape,
)

__all__ = [
    "activation",
    "control_flow",
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "matmul",
    "normalization",
    "padding",
    "pooling",
    "recurrent",
    "reduction",
    "resize",
    "shape",
]
