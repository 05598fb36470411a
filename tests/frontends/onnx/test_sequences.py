"""Sequences and optionals as inputs: a list of any length or None at run time, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import relaxc

FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, ["rows", 2])
SEQUENCE = helper.make_sequence_type_proto(FLOATS)


def compiled(nodes: list[Any], inputs: dict[str, Any], outputs: list[str], **options: Any) -> Any:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_value_info(name, type_proto) for name, type_proto in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    return relaxc.compile(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), **options
    )


def entries(*rows: int) -> list[np.ndarray]:
    return [np.arange(2.0 * n, dtype=np.float32).reshape(n, 2) + 10 * k for k, n in enumerate(rows)]


@pytest.mark.parametrize("length", [0, 1, 3])
def test_length_of_a_sequence_is_known_at_run_time(length: int) -> None:
    executable = compiled([helper.make_node("SequenceLength", ["s"], ["n"])], {"s": SEQUENCE}, ["n"])
    assert executable.inputs == (relaxc.TensorSpec("s", ("s_d0", 2), "float32", "sequence"),)
    assert executable.run({"s": entries(*range(1, length + 1))})["n"] == length


INT = helper.make_tensor_type_proto(TensorProto.INT64, [])


@pytest.mark.parametrize("position", [0, 2, -1])
def test_entry_erasure_and_insertion_at_a_run_time_position(position: int) -> None:
    nodes = [
        helper.make_node("SequenceAt", ["s", "p"], ["x"]),
        helper.make_node("SequenceErase", ["s", "p"], ["rest"]),
        helper.make_node("SequenceInsert", ["s", "x", "p"], ["more"]),
    ]
    executable = compiled(nodes, {"s": SEQUENCE, "p": INT}, ["x", "rest", "more"])
    values = entries(2, 1, 3)
    results = executable.run({"s": values, "p": np.array(position)})
    np.testing.assert_array_equal(results["x"], values[position])
    rest, more = list(values), list(values)
    del rest[position]
    more.insert(position, values[position])
    for actual, expected in ((results["rest"], rest), (results["more"], more)):
        assert [entry.shape for entry in actual] == [entry.shape for entry in expected]
        assert all(map(np.array_equal, actual, expected))


def test_position_outside_of_the_sequence_ends_in_an_error() -> None:
    node = helper.make_node("SequenceAt", ["s", "p"], ["x"])
    executable = compiled([node], {"s": SEQUENCE, "p": INT}, ["x"])
    with pytest.raises(relaxc.errors.RelaxcError):
        executable.run({"s": entries(1), "p": np.array(1)})


@pytest.mark.parametrize(("axis", "new_axis", "rows"), [(0, 0, (2, 1, 3)), (1, 0, (2, 2)), (1, 1, (3, 3))])
def test_concatenation(axis: int, new_axis: int, rows: tuple[int, ...]) -> None:
    node = helper.make_node("ConcatFromSequence", ["s"], ["x"], axis=axis, new_axis=new_axis)
    values = entries(*rows)
    expected = np.stack(values, axis) if new_axis else np.concatenate(values, axis)
    np.testing.assert_array_equal(compiled([node], {"s": SEQUENCE}, ["x"]).run({"s": values})["x"], expected)


def test_map_over_a_sequence() -> None:
    types = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Neg", ["e"], ["negative"])],
        "body",
        [types("e", TensorProto.FLOAT, None)],
        [types("negative", TensorProto.FLOAT, None)],
    )
    executable = compiled([helper.make_node("SequenceMap", ["s"], ["y"], body=body)], {"s": SEQUENCE}, ["y"])
    for rows in ((2, 1), (), (1, 2, 3)):
        results = executable.run({"s": entries(*rows)})["y"]
        assert len(results) == len(rows)
        assert all(np.array_equal(y, -x) for y, x in zip(results, entries(*rows), strict=True))


def test_optional_may_be_absent() -> None:
    optional = helper.make_optional_type_proto(FLOATS)
    executable = compiled(
        [helper.make_node("OptionalHasElement", ["o"], ["there"])], {"o": optional}, ["there"]
    )
    assert executable.run({"o": entries(2)[0]})["there"]
    assert not executable.run({"o": None})["there"]


def test_value_of_an_optional() -> None:
    optional = helper.make_optional_type_proto(FLOATS)
    executable = compiled([helper.make_node("OptionalGetElement", ["o"], ["x"])], {"o": optional}, ["x"])
    (value,) = entries(3)
    np.testing.assert_array_equal(executable.run({"o": value})["x"], value)
    with pytest.raises(relaxc.errors.RelaxcError):
        executable.run({"o": None})


def test_optional_sequence_passes_through() -> None:
    optional = helper.make_optional_type_proto(SEQUENCE)
    executable = compiled([helper.make_node("Identity", ["o"], ["y"])], {"o": optional}, ["y"])
    assert executable.run({"o": None})["y"] is None
    assert all(map(np.array_equal, executable.run({"o": entries(1, 2)})["y"], entries(1, 2)))


def test_entries_of_undeclared_rank_must_be_known() -> None:
    unknown = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    node = helper.make_node("SequenceLength", ["s"], ["n"])
    with pytest.raises(relaxc.errors.StaticInputRequired) as caught:
        compiled([node], {"s": unknown}, ["n"])
    assert caught.value.names == ("s",)
    assert compiled([node], {"s": unknown}, ["n"], static_inputs={"s": entries(1)}).run({})["n"] == 1


def test_wrong_values_are_refused() -> None:
    executable = compiled([helper.make_node("SequenceLength", ["s"], ["n"])], {"s": SEQUENCE}, ["n"])
    for wrong in (None, entries(1)[0], [np.zeros((1, 3), np.float32)], [np.zeros((1, 2))]):
        with pytest.raises(relaxc.errors.ShapeError, match="input 's'"):
            executable.run({"s": wrong})


def test_concatenated_entries_may_have_extents_that_are_known_only_at_run_time() -> None:
    fixed, free = (
        helper.make_tensor_type_proto(TensorProto.FLOAT, shape) for shape in ([2, 3], ["rows", "columns"])
    )
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "y"], ["s"]),
        helper.make_node("ConcatFromSequence", ["s"], ["z"], axis=1),
    ]
    executable = compiled(nodes, {"x": fixed, "y": free}, ["z"])
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 5), np.float32)
    np.testing.assert_array_equal(executable.run({"x": x, "y": y})["z"], np.concatenate([x, y], axis=1))
    with pytest.raises(relaxc.errors.ShapeError):
        executable.run({"x": x, "y": np.zeros((3, 5), np.float32)})
