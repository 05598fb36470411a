"""The driver: a model in, an executable out; its options, its promises and its errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import relaxc
from relaxc.compiler.driver import compile as compile_model
from relaxc.compiler.emit import STAGES, emit
from relaxc.compiler.options import CompileOptions
from relaxc.passes.pipeline import graph_passes
from relaxc.runtime.errors import ArtifactError, RelaxcError, TargetError
from relaxc.runtime.processor import missing_features

STEPS = graph_passes(16)
OPTIONAL = [step.name for step in STEPS if not step.required]
REQUIRED = [step.name for step in STEPS if step.required]


def network() -> onnx.ModelProto:
    """A convolution with batch normalisation, a residual, pooling, a dense layer and softmax."""
    generator = np.random.default_rng(0)
    shapes = {"w": (20, 3, 3, 3), "v": (20, 20, 3, 3), "d": (20, 7), "b": (7,)}
    shapes |= dict.fromkeys(("scale", "shift", "average"), (20,))
    constants = {name: generator.standard_normal(shape) * 0.3 for name, shape in shapes.items()}
    constants["variance"] = generator.random(20) + 0.5
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "average", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["a"]),
        helper.make_node("Conv", ["a", "v"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["e", "a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "d", "b"], ["g"]),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [value("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [value("y", TensorProto.FLOAT, ["batch", 7])],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


MODEL = network()


def assert_right(executable: relaxc.Executable, *shapes: tuple[int, ...]) -> None:
    for shape in shapes:
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        (expected,) = ReferenceEvaluator(MODEL).run(None, {"x": x})
        np.testing.assert_allclose(executable.run({"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def saved(path: Path, **arguments: object) -> bytes:
    compile_model(MODEL, **arguments).save(path)  # type: ignore[arg-type]
    return path.read_bytes()


def test_a_dynamic_model_runs_at_every_size() -> None:
    assert_right(relaxc.compile(MODEL), (1, 3, 10, 10), (3, 3, 7, 10), (2, 3, 33, 5))


def test_bound_shapes_are_the_executables_shapes() -> None:
    executable = relaxc.compile(MODEL, shapes={"x": (2, 3, 12, 10)})
    assert executable.inputs[0].shape == (2, 3, 12, 10)
    assert executable.outputs[0].shape == (2, 7)
    assert_right(executable, (2, 3, 12, 10))


def test_the_same_model_gives_the_same_bytes_in_one_process(tmp_path: Path) -> None:
    assert saved(tmp_path / "a.so") == saved(tmp_path / "b.so")


def test_the_same_model_gives_the_same_bytes_in_two_processes(tmp_path: Path) -> None:
    onnx.save(MODEL, tmp_path / "model.onnx")
    code = "import relaxc, sys; relaxc.compile(sys.argv[1]).save(sys.argv[2])"
    for seed in "12":
        arguments = [sys.executable, "-c", code, str(tmp_path / "model.onnx"), str(tmp_path / f"{seed}.so")]
        subprocess.run(arguments, check=True, env=os.environ | {"PYTHONHASHSEED": seed})
    assert (tmp_path / "1.so").read_bytes() == (tmp_path / "2.so").read_bytes()


def test_options_that_only_look_do_not_change_the_bytes(tmp_path: Path) -> None:
    looking = CompileOptions(dump_ir=tmp_path / "ir", report=lambda _line: None)
    assert saved(tmp_path / "a.so") == saved(tmp_path / "b.so", options=looking)


@pytest.mark.parametrize("name", OPTIONAL)
def test_results_do_not_depend_on_an_optional_pass(name: str) -> None:
    options = CompileOptions(disabled_passes=frozenset({name}))
    assert_right(compile_model(MODEL, options=options), (2, 3, 9, 10))


def test_results_do_not_depend_on_all_optional_passes_together() -> None:
    options = CompileOptions(disabled_passes=frozenset(OPTIONAL))
    assert_right(compile_model(MODEL, options=options), (2, 3, 9, 10))


@pytest.mark.parametrize("name", [*REQUIRED, "no-such-pass", ""])
def test_only_an_optional_pass_may_be_disabled(name: str) -> None:
    with pytest.raises(RelaxcError, match="cannot disable pass") as error:
        compile_model(MODEL, options=CompileOptions(disabled_passes=frozenset({name})))
    assert repr(name) in str(error.value)
    assert OPTIONAL[0] in str(error.value)


def test_the_module_is_dumped_after_every_pass(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "ir"
    compile_model(MODEL, options=CompileOptions(dump_ir=folder))
    expected = ["00_imported.py", *(f"{number:02}_{step.name}.py" for number, step in enumerate(STEPS, 1))]
    assert sorted(file.name for file in folder.iterdir()) == expected
    assert "R.nn.conv2d" in (folder / expected[0]).read_text()
    assert "T.prim_func" in (folder / expected[-1]).read_text()


def test_a_disabled_pass_is_not_dumped(tmp_path: Path) -> None:
    options = CompileOptions(dump_ir=tmp_path, disabled_passes=frozenset({"prepack-matmul"}))
    compile_model(MODEL, options=options)
    assert not list(tmp_path.glob("*prepack-matmul*"))
    assert len(list(tmp_path.iterdir())) == len(STEPS)


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RelaxcError, match="cannot dump to") as error:
        compile_model(MODEL, options=CompileOptions(dump_ir=tmp_path / "file"))
    assert "\n" not in str(error.value)


def test_progress_is_reported_in_order() -> None:
    lines: list[str] = []
    compile_model(MODEL, options=CompileOptions(report=lines.append))
    assert [line.split()[0] for line in lines] == ["importing", "optimising", "scheduling", "generating"]


def test_every_kernel_is_in_the_signature() -> None:
    kernels = relaxc.compile(MODEL, shapes={"x": (1, 3, 12, 10)}).metadata["kernels"]
    templates = {kernel["template"] for kernel in kernels}
    assert {"conv2d", "matmul", "reduction"} <= templates
    assert "fallback" not in templates
    assert all(kernel["flops"] is not None and kernel["bytes_moved"] for kernel in kernels)


def test_a_model_for_another_cpu_is_saved_and_runs_there_only(tmp_path: Path) -> None:
    executable = relaxc.compile(MODEL, "sapphirerapids")
    executable.save(tmp_path / "model.so")
    assert (tmp_path / "model.so").stat().st_size > 0
    if missing_features(executable.metadata["cpu_features"]):
        with pytest.raises(ArtifactError, match="needs CPU features that this machine lacks"):
            executable.run({"x": np.zeros((1, 3, 8, 8), np.float32)})
        with pytest.raises(ArtifactError, match="needs CPU features that this machine lacks"):
            relaxc.load(tmp_path / "model.so")


def test_a_precision_that_is_missing_is_refused() -> None:
    with pytest.raises(RelaxcError, match="int8"):
        relaxc.compile(MODEL, precision="int8")


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.02), ("fp16", 0.003)])
def test_narrow_precisions_give_nearly_the_results_of_fp32_in_float32(
    precision: str, tolerance: float
) -> None:
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, 12, 10)).astype(np.float32)}
    wide, narrow = (relaxc.compile(MODEL, precision=p) for p in ("fp32", precision))
    assert narrow.outputs == wide.outputs
    for name, expected in wide.run(feed).items():
        assert narrow.run(feed)[name].dtype == np.float32
        np.testing.assert_allclose(narrow.run(feed)[name], expected, atol=tolerance * np.abs(expected).max())


def test_narrow_precisions_halve_the_weights() -> None:
    sizes = {}
    for precision in ("fp32", "bf16", "fp16"):
        weights = relaxc.compile(MODEL, precision=precision).metadata["weights"]
        sizes[precision] = sum(np.prod(w["shape"]) * np.dtype(w["dtype"]).itemsize for w in weights)
    assert sizes["bf16"] < sizes["fp32"]
    assert sizes["fp16"] < sizes["fp32"]


def test_fp16_multiplies_in_float16_where_the_processor_can() -> None:
    there, elsewhere = (
        emit(MODEL, "asm", target=t, precision="fp16") for t in ("sapphirerapids", "x86-64-v4")
    )
    assert "vfmadd231ph" in there
    assert "vfmadd231ph" not in elsewhere
    assert "vcvtph2ps" in elsewhere


def test_fp16_is_refused_where_the_processor_cannot_convert_it() -> None:
    with pytest.raises(TargetError, match="needs F16C, which target CPU 'nehalem' lacks"):
        emit(MODEL, "asm", target={"kind": "llvm", "mcpu": "nehalem"}, precision="fp16")


def test_bf16_uses_the_processors_dot_products_where_it_has_them() -> None:
    assert "vdpbf16ps" in emit(MODEL, "asm", target={"kind": "llvm", "mcpu": "znver5"}, precision="bf16")
    assert "vdpbf16ps" not in emit(MODEL, "asm", target="x86-64-v4", precision="bf16")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(RelaxcError, match="unknown precision 'fp12': choose one of fp32"):
        relaxc.compile(MODEL, precision="fp12")


def test_calibration_is_refused() -> None:
    with pytest.raises(RelaxcError, match="calibration"):
        relaxc.compile(MODEL, calibration=[])


def test_an_unknown_target_is_refused_before_the_model_is_read() -> None:
    with pytest.raises(TargetError, match="unknown target 'abacus'"):
        relaxc.compile("missing.onnx", target="abacus")


@pytest.mark.parametrize(
    ("stage", "content"),
    [("relax", "R.call_tir"), ("tir", "T.prim_func"), ("llvm", "define "), ("asm", ".text")],
)
def test_each_stage_can_be_printed(stage: str, content: str) -> None:
    text = emit(MODEL, stage)
    assert content in text
    assert "conv2d" in text


def test_a_stage_is_printed_for_the_target_asked_for() -> None:
    assert "zmm" in emit(MODEL, "asm", target="x86-64-v4")
    assert "zmm" not in emit(MODEL, "asm", target="x86-64-v3")


def test_an_unknown_stage_is_refused_before_any_work() -> None:
    with pytest.raises(RelaxcError, match=f"unknown stage 'prose': choose one of {', '.join(STAGES)}"):
        emit("missing.onnx", "prose")


@pytest.mark.parametrize(
    ("operator", "shape", "weight", "target"),
    [
        ("Conv", (2**31 - 1, 8, 7, 5), (4, 8, 3, 2), "native"),
        ("Conv", (2**31 - 1, 8, 7, 5), (16, 8, 1, 1), "native"),
        ("MatMul", (2**30, 8, 4), (4, 40), "x86-64-v3"),
        ("MatMul", (2**30, 4, 4), (4, 40), "native"),
    ],
)
def test_kernels_have_more_rows_than_32_bits_count(
    operator: str, shape: tuple[int, ...], weight: tuple[int, ...], target: str
) -> None:
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape), onnx.ValueInfoProto(name="y")]
    weights = [onnx.numpy_helper.from_array(np.ones(weight, np.float32), "w")]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])], "g", ends[:1], ends[1:], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert relaxc.compile(model, target=target).outputs[0].shape[0] == shape[0]
