"""A broken model ends in one line that says what is wrong, whatever is wrong with it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from relaxc.frontends.onnx import import_onnx
from relaxc.frontends.onnx.load import load_model
from relaxc.runtime.errors import InvalidModelError, ShapeError, StaticInputRequired, UnsupportedOperatorError

Graph = Callable[..., onnx.ModelProto]
NODE = helper.make_node


@pytest.fixture
def relu(graph: Graph) -> onnx.ModelProto:
    return graph([NODE("Relu", ["x"], ["y"])], {"x": (np.float32, ["batch", 3])}, ["y"])


def refused(model: Any, error: type[Exception] = InvalidModelError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        import_onnx(model, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent.onnx")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"this is not a protobuf", b"\x08"])
def test_corrupt_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert str(path) in refused(path)


def test_every_truncation_is_refused(tmp_path: Path, relu: onnx.ModelProto) -> None:
    data = relu.SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(0, len(data) - 12, 5):
        path.write_bytes(data[:length])
        refused(path)


def test_empty_model_has_no_graph() -> None:
    assert "no graph" in refused(onnx.ModelProto())


def test_source_hash_is_the_files(tmp_path: Path, relu: onnx.ModelProto) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(relu, path)
    assert import_onnx(path).source_hash == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("data", [b"", b"1234", bytes(1 << 20)])
def test_raw_data_are_as_long_as_the_shape_says(graph: Graph, data: bytes) -> None:
    weight = np.zeros((3, 4), np.float32)
    model = graph([NODE("MatMul", ["x", "w"], ["y"])], {"x": (np.float32, [2, 3])}, ["y"], 18, {"w": weight})
    model.graph.initializer[0].raw_data = data
    assert "'w' is broken" in refused(model)


def external(tmp_path: Path, graph: Graph, location: str) -> Path:
    """A model one of whose weights lies at ``location``."""
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    inputs = {"x": (np.float32, ["n", 3])}
    model = graph([NODE("MatMul", ["x", "w"], ["y"])], inputs, ["y"], constants={"w": weight})
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    path = tmp_path / "model" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_beside_the_model(tmp_path: Path, graph: Graph) -> None:
    path = external(tmp_path, graph, "weights.bin")
    (path.parent / "weights.bin").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    initializer = load_model(path).proto.graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(initializer).reshape(-1), np.arange(12))


def test_external_data_missing(tmp_path: Path, graph: Graph) -> None:
    assert "no such file" in refused(external(tmp_path, graph, "weights.bin"))


def test_external_data_too_short(tmp_path: Path, graph: Graph) -> None:
    path = external(tmp_path, graph, "weights.bin")
    (path.parent / "weights.bin").write_bytes(b"1234")
    assert "'w'" in refused(path)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "sub/../../weights.bin"])
def test_external_data_outside_the_folder(tmp_path: Path, graph: Graph, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    assert "outside" in refused(external(tmp_path, graph, location))


def test_external_data_through_a_link_to_the_outside(tmp_path: Path, graph: Graph) -> None:
    (tmp_path / "weights.bin").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    path = external(tmp_path, graph, "link.bin")
    (path.parent / "link.bin").symlink_to(tmp_path / "weights.bin")
    assert "outside" in refused(path)


def test_unsorted_graph_is_sorted(graph: Graph) -> None:
    model = graph([NODE("Relu", ["x"], ["a"]), NODE("Neg", ["a"], ["y"])], {"x": (np.float32, ["n"])}, ["y"])
    first, second = (onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([second, first])
    assert [node.op_type for node in load_model(model).proto.graph.node] == ["Relu", "Neg"]


def broken(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    body = helper.make_graph(nodes, "g", [value("x", 1, ["n"])], [value("y", 1, ["n"])])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)])


def test_cycle() -> None:
    message = refused(
        broken([NODE("Add", ["x", "b"], ["a"]), NODE("Neg", ["a"], ["b"]), NODE("Neg", ["a"], ["y"])])
    )
    assert "cycle" in message


def test_value_produced_twice() -> None:
    assert "'y' is produced twice" in refused(broken([NODE("Neg", ["x"], ["y"]), NODE("Relu", ["x"], ["y"])]))


def test_input_that_nothing_produces() -> None:
    assert "'z'" in refused(broken([NODE("Add", ["x", "z"], ["y"])]))


def test_output_that_nothing_produces() -> None:
    assert "'y'" in refused(broken([NODE("Neg", ["x"], ["z"])]))


def test_opset_too_new(relu: onnx.ModelProto) -> None:
    relu.opset_import[0].version = 999
    assert "opset 999" in refused(relu)


def test_old_opset_is_converted(relu: onnx.ModelProto) -> None:
    relu.opset_import[0].version = 6
    assert [spec.name for spec in import_onnx(relu).inputs] == ["x"]


def test_all_unsupported_operators_are_named_at_once() -> None:
    model = broken([NODE("Foo", ["x"], ["a"], name="first"), NODE("Bar", ["a"], ["y"], name="second")])
    message = refused(model, UnsupportedOperatorError)
    assert all(word in message for word in ("Foo", "first", "Bar", "second"))


def test_unsupported_operators_inside_branches_are_found(graph: Graph) -> None:
    branch = helper.make_graph(
        [NODE("Foo", ["x"], ["z"], name="deep")], "b", [], [onnx.ValueInfoProto(name="z")]
    )
    node = NODE("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model = graph([node], {"x": (np.float32, [3]), "c": (np.bool_, [])}, ["y"])
    assert "deep" in refused(model, UnsupportedOperatorError)


def test_unknown_input_names_list_the_known_ones(relu: onnx.ModelProto) -> None:
    assert "its inputs are x" in refused(relu, ShapeError, shapes={"z": (1, 3)})
    assert "its inputs are x" in refused(relu, ShapeError, static_inputs={"z": np.zeros(3)})


@pytest.mark.parametrize("shape", [(1,), (1, 4), (-1, 3)])
def test_shapes_that_contradict_the_model(relu: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    assert "'x'" in refused(relu, ShapeError, shapes={"x": shape})


def test_shapes_that_contradict_each_other(graph: Graph) -> None:
    inputs = {"a": (np.float32, ["n"]), "b": (np.float32, ["n"])}
    model = graph([NODE("Add", ["a", "b"], ["y"])], inputs, ["y"])
    assert "dimension n is 2, not 3" in refused(model, ShapeError, shapes={"a": (2,), "b": (3,)})


def test_static_input_of_another_dtype(relu: onnx.ModelProto) -> None:
    message = refused(relu, ShapeError, static_inputs={"x": np.zeros((2, 3))})
    assert "float64" in message


def test_input_that_decides_a_rank_must_be_static(graph: Graph) -> None:
    inputs = {"x": (np.float32, [1, 1, 3]), "axes": (np.int64, [1])}
    model = graph([NODE("Squeeze", ["x", "axes"], ["y"])], inputs, ["y"])
    with pytest.raises(StaticInputRequired) as caught:
        import_onnx(model)
    assert caught.value.names == ("axes",)
    imported = import_onnx(model, static_inputs={"axes": np.array([0])})
    assert [spec.name for spec in imported.inputs] == ["x"]
    assert imported.outputs[0].shape == (1, 3)


def test_static_input_is_traced_through_computations(graph: Graph) -> None:
    nodes = [NODE("Neg", ["k"], ["axes"]), NODE("Unsqueeze", ["x", "axes"], ["y"])]
    model = graph(nodes, {"x": (np.float32, ["n"]), "k": (np.int64, [1])}, ["y"])
    with pytest.raises(StaticInputRequired) as caught:
        import_onnx(model)
    assert caught.value.names == ("k",)


def test_sparse_weights_are_written_out(graph: Graph) -> None:
    model = graph([NODE("Identity", ["w"], ["y"])], {"x": (np.float32, [2])}, ["y"])
    values = helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("", onnx.TensorProto.INT64, [2, 2], [0, 1, 1, 0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    weight = load_model(model).proto.graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), [[0, 1, 0], [2, 0, 0]])


@pytest.mark.parametrize(("place", "extent"), [(7, 4), (-1, 4), (1, 2**40)])
def test_broken_sparse_weights(graph: Graph, place: int, extent: int) -> None:
    model = graph([NODE("Identity", ["w"], ["y"])], {"x": (np.float32, [2])}, ["y"])
    values = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("", onnx.TensorProto.INT64, [1], [place])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [extent]))
    assert "'w'" in refused(model)


def calling(graph: Graph, calls: dict[str, list[str]]) -> onnx.ModelProto:
    """A model that calls the local function A, given which functions or operators each one calls."""
    model = graph([NODE("Relu", ["x"], ["y"])], {"x": (np.float32, [2])}, ["y"])
    model.graph.node[0].op_type, model.graph.node[0].domain = "A", "local"
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    for name, called in calls.items():
        nodes = [
            helper.make_node(op, ["x"], [f"y{i}" if i else "y"], domain="local" if op in calls else "")
            for i, op in enumerate(called)
        ]
        model.functions.append(helper.make_function("local", name, ["x"], ["y"], nodes, opsets))
    model.opset_import.append(opsets[1])
    return model


def test_local_functions_are_inlined(graph: Graph) -> None:
    nodes = load_model(calling(graph, {"A": ["B"], "B": ["Relu"]})).proto.graph.node
    assert [node.op_type for node in nodes] == ["Relu"]


def test_local_functions_that_call_one_another_in_a_circle(graph: Graph) -> None:
    assert "calls itself" in refused(calling(graph, {"A": ["A"]}))
    assert "calls itself" in refused(calling(graph, {"A": ["B"], "B": ["A"]}))


def test_local_functions_of_exponential_size(graph: Graph) -> None:
    names = ["A", *(f"F{depth}" for depth in range(30)), "Relu"]
    calls = {name: [called, called] for name, called in itertools.pairwise(names)}
    assert "nodes once its local functions are inlined" in refused(calling(graph, calls))


def test_tensors_larger_than_any_memory(graph: Graph) -> None:
    model = graph([NODE("Relu", ["x"], ["y"])], {"x": (np.float32, [1 << 40, "n"])}, ["y"])
    assert "input 'x' of shape" in refused(model, ShapeError, shapes={"x": (1 << 40, 1 << 20)})
    wide = graph(
        [NODE("MatMul", ["x", "y"], ["z"])],
        {"x": (np.float32, [1 << 30, 1]), "y": (np.float32, [1, 1 << 30])},
        ["z"],
    )
    assert "'z'" in refused(wide)


def test_axes_longer_than_kernels_count(graph: Graph) -> None:
    model = graph([NODE("Relu", ["x"], ["y"])], {"x": (np.float32, ["n"])}, ["y"])
    assert "2^31" in refused(model, ShapeError, shapes={"x": (1 << 31,)})


@pytest.mark.parametrize("size", [44, 52])
def test_weights_with_other_data_than_elements_in_another_file(
    tmp_path: Path, graph: Graph, size: int
) -> None:
    path = external(tmp_path, graph, "weights.bin")
    (path.parent / "weights.bin").write_bytes(bytes(size))
    assert "tensor 'w' is broken" in refused(path)


def test_windows_larger_than_the_data(graph: Graph) -> None:
    model = graph([NODE("Relu", ["x"], ["y"])], {"x": (np.float32, [1, 1, 2, 2])}, ["y"])
    model.graph.node[0].CopyFrom(NODE("AveragePool", ["x"], ["y"], kernel_shape=[5, 5]))
    assert "AveragePool" in refused(model)
