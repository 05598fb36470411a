"""The operators that compute an element of their result from one element of each operand."""

from __future__ import annotations

UNARY = frozenset(
    f"relax.{op}"
    for op in (
        *("abs", "astype", "ceil", "clip", "cos", "erf", "exp", "floor", "log", "negative", "round", "rsqrt"),
        *("sigmoid", "sign", "sin", "sqrt", "square", "tanh", "nn.gelu", "nn.gelu_tanh", "nn.leakyrelu"),
        *("nn.relu", "nn.selu", "nn.silu", "nn.softplus"),
    )
)
"""Of one tensor; their other operands are numbers."""

BINARY = frozenset(
    f"relax.{op}" for op in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power")
)
"""Of two tensors, which broadcast."""
