"""Loading and running an artifact."""

from __future__ import annotations

import dataclasses
import gc
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import relax, topi

import relaxc
from relaxc.runtime.artifact import Artifact
from relaxc.runtime.errors import ArtifactError, RelaxcError, ShapeError
from relaxc.runtime.signature import PlacedTensor

WEIGHT = (np.arange(12, dtype=np.float32) - 5).reshape(3, 4)

NUMPY_TYPES = ["float16", "float64", "bool", "int8", "uint8", "int16", "int32", "int64", "uint64"]


def sample(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3)).astype(np.float32)


def hidden(x: np.ndarray) -> np.ndarray:
    return np.maximum(x.astype(np.float64) @ WEIGHT, 0)


def function(parameters: list[tuple[str, tuple[Any, ...], str]], body: Any) -> tvm.IRModule:
    """A module whose ``main`` returns what ``body`` makes of its parameters."""
    builder = relax.BlockBuilder()
    variables = [relax.Var(name, relax.TensorType(shape, dtype)) for name, shape, dtype in parameters]
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_output(body(builder, *variables))
        builder.emit_func_output(result)
    return builder.get()


class TestRunning:
    def test_results_come_in_the_models_order(self, dense: Path) -> None:
        results = relaxc.load(dense).run({"x": sample(5)})
        assert list(results) == ["hidden", "x_again", "w_again"]
        np.testing.assert_allclose(results["hidden"], hidden(sample(5)), rtol=1e-5, atol=1e-5)

    def test_one_executable_serves_different_shapes_in_turn(self, dense: Path) -> None:
        executable = relaxc.load(dense)
        for batch in (1, 7, 2, 0, 100, 7):
            x = sample(batch, seed=batch)
            np.testing.assert_allclose(executable.run({"x": x})["hidden"], hidden(x), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("arrange", [np.asfortranarray, lambda x: x[::-1], lambda x: x[::2]])
    def test_arrays_need_not_be_contiguous(self, dense: Path, arrange: Any) -> None:
        x = arrange(sample(8))
        np.testing.assert_allclose(
            relaxc.load(dense).run({"x": x})["hidden"], hidden(x), rtol=1e-5, atol=1e-5
        )

    def test_arrays_may_be_read_only_and_lie_anywhere(self, dense: Path) -> None:
        raw = np.zeros(1 + 4 * 3 * 4, np.uint8)
        x = raw[1:].view(np.float32).reshape(4, 3)
        x[:] = sample(4)
        x.flags.writeable = False
        np.testing.assert_allclose(
            relaxc.load(dense).run({"x": x})["hidden"], hidden(x), rtol=1e-5, atol=1e-5
        )

    def test_results_belong_to_the_caller(self, dense: Path) -> None:
        executable = relaxc.load(dense)
        x = sample(2)
        first = executable.run({"x": x})
        kept = {name: array.copy() for name, array in first.items()}
        executable.run({"x": sample(2, seed=1)})
        for name, array in first.items():
            np.testing.assert_array_equal(array, kept[name])
            array[:] = 99
        np.testing.assert_array_equal(x, sample(2))
        np.testing.assert_array_equal(executable.run({"x": x})["w_again"], WEIGHT)

    def test_names_shapes_and_facts_can_be_read(self, dense: Path) -> None:
        executable = relaxc.load(dense)
        assert executable.inputs == (relaxc.TensorSpec("x", ("batch", 3), "float32"),)
        assert [spec.name for spec in executable.outputs] == ["hidden", "x_again", "w_again"]
        assert executable.metadata["versions"]["tvm"] == tvm.__version__
        assert executable.metadata["kernels"][0]["name"] == "matmul"
        assert "hidden" in repr(executable)

    def test_the_weights_stay_pages_of_the_file(self, dense: Path) -> None:
        executable = relaxc.load(dense)
        executable.run({"x": sample(2)})
        maps = Path("/proc/self/smaps").read_text().split(f" {dense}\n")[1:]
        mapped = [int(re.search(r"Size: +(\d+)", entry)[1]) * 1024 for entry in maps]  # type: ignore[index]
        whole = [entry for size, entry in zip(mapped, maps, strict=True) if size >= dense.stat().st_size]
        assert whole
        assert all("Private_Dirty:         0 kB" in entry for entry in whole)

    def test_many_shapes_do_not_pile_up_memory(self, dense: Path) -> None:
        executable = relaxc.load(dense)
        executable.run({"x": sample(1)})
        before = resident_bytes()
        for batch in range(100_000, 200_000, 1_000):
            executable.run({"x": np.zeros((batch, 3), np.float32)})
        assert resident_bytes() - before < 150e6  # all blocks together would be 500 MB

    @pytest.mark.parametrize("size", [2**60, 2**63, 2**80])
    def test_a_workspace_that_does_not_fit_into_memory_is_refused(self, dense: Path, size: int) -> None:
        artifact = Artifact(dense)
        huge = (PlacedTensor(0, (size,), "int8"),)
        artifact.signature = dataclasses.replace(artifact.signature, workspace=huge)
        with pytest.raises(RelaxcError, match="MB of memory"):
            relaxc.runtime.Executable(artifact).run({"x": sample(2)})


class TestInputs:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({}, "missing 'x'; the model takes 'x' float32[batch,3]"),
            ({"y": sample(1)}, "missing 'x'; unknown 'y'"),
            ({"x": sample(1), "y": 0}, "unknown 'y'"),
            ({"x": sample(1).astype(np.float64)}, "expected float32[batch,3], got float64[1,3]"),
            ({"x": sample(1).astype(">f4")}, "got >f4[1,3]"),
            ({"x": sample(1)[0]}, "got float32[3]; the rank must be 2"),
            ({"x": np.zeros((2, 4), np.float32)}, "got float32[2,4]; axis 1 must be 3"),
            ({"x": [[1.0, 2.0, 3.0]]}, "expected a NumPy array, float32[batch,3], got list"),
            ({"x": 1.0}, "got float"),
            ([sample(1)], "expected a dict of arrays by name, got list"),
        ],
    )
    def test_wrong_inputs_are_refused_in_one_line(self, dense: Path, inputs: Any, message: str) -> None:
        with pytest.raises(ShapeError) as error:
            relaxc.load(dense).run(inputs)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_symbol_has_one_extent_in_all_inputs(self, tmp_path: Path, toy_model: Any) -> None:
        batch = tvm.tirx.Var("n", "int64")
        module = function(
            [("a", (batch,), "float32"), ("b", (batch,), "float32")],
            lambda builder, a, b: relax.Tuple([builder.emit(relax.op.add(a, b))]),
        )
        specs = tuple(relaxc.TensorSpec(name, ("n",), "float32") for name in "ab")
        path = toy_model(module, specs, (relaxc.TensorSpec("c", ("n",), "float32"),)).write(tmp_path / "m.so")
        executable = relaxc.load(path)
        ones = np.ones(3, np.float32)
        np.testing.assert_array_equal(executable.run({"b": ones, "a": ones})["c"], ones + ones)
        with pytest.raises(ShapeError, match="axis 0 must be 3, because n is 3 in input 'a'"):
            executable.run({"a": ones, "b": np.ones(4, np.float32)})

    def test_a_shape_that_only_the_program_can_check_is_refused_in_one_line(
        self, tmp_path: Path, toy_model: Any
    ) -> None:
        n = tvm.tirx.Var("n", "int64")
        module = function(
            [("a", (n,), "float32"), ("b", (n * 2,), "float32")],
            lambda builder, a, b: relax.Tuple([builder.emit(relax.op.concat([a, b]))]),
        )
        inputs = (relaxc.TensorSpec("a", ("n",), "float32"), relaxc.TensorSpec("b", ("n * 2",), "float32"))
        path = toy_model(module, inputs, (relaxc.TensorSpec("c", ("m",), "float32"),)).write(
            tmp_path / "m.so"
        )
        executable = relaxc.load(path)
        a = np.ones(3, np.float32)
        assert executable.run({"a": a, "b": np.ones(6, np.float32)})["c"].shape == (9,)
        with pytest.raises(ShapeError, match="refuses these shapes") as error:
            executable.run({"a": a, "b": a})
        assert "\n" not in str(error.value)


class TestElementTypes:
    @pytest.mark.parametrize("dtype", [*NUMPY_TYPES, "bfloat16", "float8_e4m3fn", "float8_e5m2"])
    @pytest.mark.parametrize("shape", [(2, 3), (), (0, 2)])
    def test_values_go_through_unchanged(
        self, tmp_path: Path, toy_model: Any, dtype: str, shape: tuple[int, ...]
    ) -> None:
        # Compiled code takes floats of at most 8 bits as their codes.
        held = "uint8" if dtype.startswith("float8") else dtype
        module = function(
            [("x", shape, held)], lambda builder, x: relax.Tuple([x, builder.emit_te(topi.identity, x)])
        )
        outputs = (
            relaxc.TensorSpec("handed_through", shape, dtype),
            relaxc.TensorSpec("copied", shape, dtype),
        )
        model = toy_model(module, (relaxc.TensorSpec("x", shape, dtype),), outputs)
        numpy_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
        x = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 5).astype(numpy_type)
        results = relaxc.load(model.write(tmp_path / "m.so")).run({"x": x})
        for result in results.values():
            assert result.dtype == numpy_type
            np.testing.assert_array_equal(result, x)

    def test_values_of_4_bits_take_a_byte_each(self, tmp_path: Path, toy_model: Any) -> None:
        module = function([("x", (3,), "int8")], lambda builder, x: relax.Tuple([builder.emit(x + x)]))
        model = toy_model(
            module, (relaxc.TensorSpec("x", (3,), "int4"),), (relaxc.TensorSpec("y", (3,), "int4"),)
        )
        x = np.array([-3, 0, 2], ml_dtypes.int4)
        y = relaxc.load(model.write(tmp_path / "m.so")).run({"x": x})["y"]
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y.astype(int), [-6, 0, 4])

    def test_weights_of_bfloat16_are_read_in_place(self, tmp_path: Path, toy_model: Any) -> None:
        module = function(
            [("x", (3,), "bfloat16"), ("w", (3,), "bfloat16")],
            lambda builder, x, w: relax.Tuple([builder.emit(relax.op.maximum(x, w))]),
        )
        spec = relaxc.TensorSpec("x", (3,), "bfloat16")
        weights = (np.array([1, 2, 3], ml_dtypes.bfloat16),)
        path = toy_model(module, (spec,), (spec,), weights).write(tmp_path / "m.so")
        x = np.array([3, 2, 1], ml_dtypes.bfloat16)
        np.testing.assert_array_equal(relaxc.load(path).run({"x": x})["x"].astype(int), [3, 2, 3])


def test_sequences_come_as_lists_and_absent_optionals_as_none(tmp_path: Path, toy_model: Any) -> None:
    module = function(
        [("x", (2,), "float32")],
        lambda builder, x: relax.Tuple([relax.Tuple([x, builder.emit(x + x)]), relax.op.null_value()]),
    )
    spec = relaxc.TensorSpec("x", (2,), "float32")
    outputs = (relaxc.TensorSpec("sequence", (2,), "float32"), relaxc.TensorSpec("absent", (2,), "float32"))
    path = toy_model(module, (spec,), outputs).write(tmp_path / "m.so")
    x = np.array([1, 2], np.float32)
    results = relaxc.load(path).run({"x": x})
    assert results["absent"] is None
    assert [entry.tolist() for entry in results["sequence"]] == [[1, 2], [2, 4]]


def test_one_value_under_two_names_comes_as_two_arrays(tmp_path: Path, toy_model: Any) -> None:
    def twice(builder: relax.BlockBuilder, x: relax.Var) -> relax.Tuple:
        double = builder.emit(x + x)
        return relax.Tuple([double, double])

    specs = [relaxc.TensorSpec(name, (2,), "float32") for name in "xyz"]
    model = toy_model(function([("x", (2,), "float32")], twice), specs[:1], specs[1:])
    results = relaxc.load(model.write(tmp_path / "m.so")).run({"x": np.ones(2, np.float32)})
    results["y"][:] = 0
    assert results["z"].tolist() == [2, 2]


class TestSaving:
    def test_a_copy_has_the_same_bytes(self, dense: Path, tmp_path: Path) -> None:
        relaxc.load(dense).save(tmp_path / "copy.so")
        assert (tmp_path / "copy.so").read_bytes() == dense.read_bytes()

    def test_the_original_may_be_gone_or_be_the_destination(self, dense: Path, tmp_path: Path) -> None:
        content = dense.read_bytes()
        path = tmp_path / "model.so"
        path.write_bytes(content)
        executable = relaxc.load(path)
        executable.save(path)
        path.unlink()
        executable.save(path)
        assert path.read_bytes() == content

    def test_a_folder_is_refused(self, dense: Path, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="it is a folder"):
            relaxc.load(dense).save(tmp_path)


class TestLoading:
    def test_any_file_name_will_do(
        self, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("model").write_bytes(dense.read_bytes())
        assert relaxc.load("model").run({"x": sample(1)})["hidden"].shape == (1, 4)

    def test_a_file_compiled_anew_is_the_one_that_runs(self, tmp_path: Path, dense_toy: Any) -> None:
        path = dense_toy.write(tmp_path / "model.so")
        old = relaxc.load(path)
        changed = function(
            [("x", (tvm.tirx.Var("batch", "int64"), 3), "float32")],
            lambda builder, x: relax.Tuple([builder.emit(relax.op.negative(x))]),
        )
        dataclasses.replace(dense_toy, module=changed, outputs=dense_toy.inputs, weights=()).write(path)
        new = relaxc.load(path)
        x = sample(2)
        np.testing.assert_array_equal(new.run({"x": x})["x"], -x)
        np.testing.assert_allclose(old.run({"x": x})["hidden"], hidden(x), rtol=1e-5, atol=1e-5)

    def test_what_is_dropped_is_given_back(self, dense: Path) -> None:
        def use() -> None:
            relaxc.load(dense).run({"x": sample(2)})

        use()
        before = len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count(str(dense))
        for _ in range(10):
            use()
        gc.collect()
        after = len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count(str(dense))
        assert after <= before

    def test_missing_cpu_features_are_named(self, tmp_path: Path, dense_toy: Any) -> None:
        features = ("sse2", "amx_vision", "avx99")
        path = dataclasses.replace(dense_toy, cpu_features=features).write(tmp_path / "m.so")
        with pytest.raises(ArtifactError, match="lacks: amx_vision, avx99; compile the model for a target"):
            relaxc.load(path)

    def test_another_tvm_is_named(self, tmp_path: Path, dense_toy: Any) -> None:
        path = dataclasses.replace(dense_toy, versions={"tvm": "0.26.1"}).write(tmp_path / "m.so")
        with pytest.raises(ArtifactError, match=r"compiled with TVM 0.26.1, but TVM 0.27"):
            relaxc.load(path)


class TestThreads:
    def test_callers_at_once_get_their_own_results(self, dense: Path) -> None:
        executable = relaxc.load(dense, num_threads=2)
        together = threading.Barrier(4)

        def call(seed: int) -> None:
            together.wait()
            for batch in range(1, 50):
                x = sample(batch, seed)
                got = executable.run({"x": x})["hidden"]
                np.testing.assert_allclose(got, hidden(x), rtol=1e-4, atol=1e-4)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call, range(4)))

    def test_the_default_is_every_usable_core(self, dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from relaxc.runtime.processor import usable_cores

        monkeypatch.delenv("TVM_NUM_THREADS", raising=False)
        assert relaxc.load(dense).num_threads == usable_cores()
        monkeypatch.setenv("TVM_NUM_THREADS", "3")
        assert relaxc.load(dense).num_threads == 3

    def test_no_threads_at_all_is_refused(self, dense: Path) -> None:
        with pytest.raises(RelaxcError, match="num_threads"):
            relaxc.load(dense, num_threads=0)


def resident_bytes() -> int:
    """Physical memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
