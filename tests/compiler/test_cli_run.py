"""``relaxc run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from relaxc.compiler.npz_files import read_npz, write_npz
from relaxc.compiler.sample_inputs import Fill, sample_inputs
from relaxc.runtime.errors import RelaxcError, ShapeError
from relaxc.runtime.signature import TensorSpec

WEIGHT = (np.arange(12, dtype=np.float32) - 5).reshape(3, 4)


def test_outputs_are_written_and_described(command: Any, dense: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    done = command("run", dense, "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1].split()[:3] == ["hidden", "float32", "5x4"]
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs.files == ["hidden", "x_again", "w_again"]
        np.testing.assert_allclose(outputs["hidden"], np.maximum(x @ WEIGHT, 0), rtol=1e-5, atol=1e-5)


def test_inputs_can_be_made_up(command: Any, dense: Path) -> None:
    ones = command("run", dense, "--fill", "ones", "--shape", "x:1,3", "--print")
    assert "hidden =\n[[0. 0. 3. 6.]]" in ones.out
    random = [command("run", dense, "--shape", "x:2,3", "--seed", seed, "--print").out for seed in "112"]
    assert random[0] == random[1] != random[2]


def test_symbolic_extents_must_be_given(command: Any, dense: Path) -> None:
    assert "batch has no value; pass --shape x:1,3, for example" in command("run", dense).error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.so"], "no such file"),
        (["{dense}", "--inputs", "missing.npz"], "no such file: missing.npz"),
        (["{dense}", "--inputs", "{dense}"], "no .npz file of plain arrays"),
        (["{dense}", "--shape", "z:1,3"], "no input 'z' to shape"),
        (["{dense}", "--shape", "x:1,2,3"], "of rank 2; got the shape 1,2,3"),
        (["{dense}", "--shape", "x:1,7"], "axis 1 must be 3"),
        (["{dense}", "--shape", "x:1,3", "--outputs", "/no/such/folder/o.npz"], "does not exist"),
    ],
)
def test_mistakes_end_in_one_line(command: Any, dense: Path, arguments: list[str], message: str) -> None:
    assert message in command("run", *(argument.format(dense=dense) for argument in arguments)).error


def test_names_that_the_model_does_not_know_are_refused(command: Any, dense: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", z=np.zeros(3))
    assert "unknown 'z'" in command("run", dense, "--inputs", tmp_path / "in.npz").error


@pytest.mark.parametrize(
    "arguments", [["--shape", "x"], ["--shape", "x:a,b"], ["--fill", "sevens"], ["--what"]]
)
def test_wrong_usage_exits_with_2(command: Any, dense: Path, arguments: list[str]) -> None:
    assert command("run", dense, *arguments).code == 2


class TestNpzFiles:
    def test_extended_types_sequences_and_absent_values_survive(self, tmp_path: Path) -> None:
        half = np.array([1, 2], ml_dtypes.bfloat16)
        write_npz(tmp_path / "a.npz", {"x": half, "sequence": [half, np.zeros((2, 0))], "absent": None})
        spec = TensorSpec("x", (2,), "bfloat16")
        arrays = read_npz(tmp_path / "a.npz", [spec])
        assert {name: (array.dtype.kind, array.shape) for name, array in arrays.items()} == {
            "x": (half.dtype.kind, (2,)),
            "sequence_0": ("V", (2,)),
            "sequence_1": ("f", (2, 0)),
        }
        np.testing.assert_array_equal(arrays["x"], half)

    @pytest.mark.parametrize("name", ["file", "a/b", "input:0", "ä"])
    def test_any_name_will_do(self, tmp_path: Path, name: str) -> None:
        write_npz(tmp_path / "a.npz", {name: np.ones(3)})
        assert list(read_npz(tmp_path / "a.npz")) == [name]

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x93NUMPY", b"text"])
    def test_other_files_are_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(RelaxcError, match=r"a\.npz"):
            read_npz(tmp_path / "a.npz")

    def test_objects_and_lone_arrays_are_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
        np.save(tmp_path / "b.npy", np.ones(3))
        for name in ("a.npz", "b.npy"):
            with pytest.raises(RelaxcError, match=r"numpy\.savez"):
                read_npz(tmp_path / name)


class TestSampleInputs:
    SPECS = (
        TensorSpec("a", ("n", 2), "float16"),
        TensorSpec("b", ("n",), "int64"),
        TensorSpec("c", (), "bool"),
    )

    def test_one_shape_binds_its_symbols_everywhere(self) -> None:
        arrays = sample_inputs(self.SPECS, {"a": (3, 2)})
        assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
            "a": ((3, 2), "float16"),
            "b": ((3,), "int64"),
            "c": ((), "bool"),
        }

    def test_integers_are_valid_as_tokens_and_as_masks(self) -> None:
        assert set(sample_inputs(self.SPECS, {"b": (1000,)})["b"]) == {0, 1}

    def test_constant_fills(self) -> None:
        assert sample_inputs(self.SPECS, {"b": (2,)}, Fill.ONES)["a"].tolist() == [[1, 1], [1, 1]]
        assert sample_inputs(self.SPECS, {"b": (2,)}, Fill.ZEROS)["b"].tolist() == [0, 0]

    def test_open_symbols_are_refused(self) -> None:
        with pytest.raises(ShapeError, match=r"input 'a' is float16\[n,2\]: n has no value"):
            sample_inputs(self.SPECS, {})
