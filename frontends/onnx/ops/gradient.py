"""The operator Gradient (ai.onnx.preview.training): reverse-mode differentiation, which Relax does."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.ir import Expr

from ....runtime.errors import UnsupportedOperatorError
from ..gradient_bodies import DOMAIN
from ..node import Node
from ..registry import converts
from ..values import Value


@converts("Gradient", domain=DOMAIN)
def gradient(node: Node) -> list[Value]:
    """The derivatives of the sum of ``y`` by each of ``xs``.

    Raises UnsupportedOperatorError where an operator on the way has no derivative in Relax.
    """
    builder = node.builder
    given = node.tensors()
    parameters = [relax.Var(f"x{place}", tensor.ty) for place, tensor in enumerate(given)]
    with builder.branch() as close:
        (y,) = node.run_subgraph("body", parameters)
        body = close(builder.emit(relax.op.sum(builder.tensor(y))))
    normal = builder.block_builder.normalize(body)
    outside = [v for v in relax.analysis.free_vars(normal) if v not in parameters]
    forward = relax.Function([*parameters, *outside], normal)
    wanted = parameters[: len(node.texts("xs"))]
    symbol = builder.block_builder.add_func(_adjoint(node, forward, wanted), "gradient")
    both = builder.block_builder.emit(relax.Call(symbol, [*given, *outside]))
    derivatives = builder.block_builder.emit(relax.TupleGetItem(both, 1))
    return [builder.emit(relax.TupleGetItem(derivatives, place)) for place in range(len(wanted))]


def _adjoint(node: Node, forward: relax.Function, wanted: list[Expr]) -> relax.Function:
    module = tvm.IRModule({"forward": forward.with_attr("global_symbol", "forward")})
    module = relax.transform.ConvertToDataflow(1)(module)
    try:
        module = relax.transform.Gradient("forward", wanted)(module)
    except (tvm.TVMError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedOperatorError(f"{node.label}: no derivative is known: {reason}") from None
    found = module["forward_adjoint"].without_attr("global_symbol")
    return relax.utils.copy_with_new_vars(found)
