"""The name of the operator that an expression calls."""

from __future__ import annotations

from tvm import ir, relax, tirx

from relaxc.passes.operator_name import operator_name

X = relax.Var("x", relax.TensorType([2], "float32"))


def test_a_call_of_a_relax_operator_has_its_name():
    assert operator_name(relax.op.nn.relu(X)) == "relax.nn.relu"


def test_a_call_of_a_tir_operator_has_its_name():
    assert operator_name(tirx.exp(tirx.Var("a", "float32"))) == "tirx.exp"


def test_a_call_of_a_function_has_none():
    assert operator_name(ir.Call(relax.ExternFunc("some.function"), [X])) == ""


def test_what_is_no_call_has_none():
    assert operator_name(X) == ""
