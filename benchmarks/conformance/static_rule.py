"""The rule for static inputs: only what decides a rank or a type may be one."""

from __future__ import annotations

import onnx

from ..outcome import Outcome
from .cases import Case


def needless_static(case: Case, outcome: Outcome) -> bool:
    """Whether a case passed with static inputs although its outputs' ranks and types follow without them.

    What follows is what onnx's shape inference finds for the model without the declared outputs. It knows
    operators by their schemas: where it does not see a rank that could be known, nothing is held against
    the implementation.
    """
    return outcome.passed and bool(outcome.static_inputs) and _forms_follow(case.model)


def _forms_follow(model: onnx.ModelProto) -> bool:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    names = [output.name for output in bare.graph.output]
    del bare.graph.output[:]
    bare.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    graph = onnx.shape_inference.infer_shapes(bare).graph
    return all(output.type.tensor_type.HasField("shape") for output in graph.output)
