"""Finding TVM's runtime, and doing without the rest of TVM."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relaxc.runtime import library
from relaxc.runtime.errors import ArtifactError

# Any import of tvm, onnx or torch fails in these processes, and whatever of them was loaded is an error.
BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tvm", "onnx", "torch"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""
RUN = """
import numpy, relaxc
executable = relaxc.load(sys.argv[1])
print(executable.run({"x": numpy.ones((2, 3), "float32")})["hidden"].tolist())
assert not [name for name in ("tvm", "onnx", "torch") if sys.modules.get(name)]
maps = open("/proc/self/maps").read()
assert "libtvm_compiler" not in maps
"""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def tvm_folder() -> Path:
    spec = importlib.util.find_spec("tvm")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.mark.parametrize("block", [BLOCKED, "import sys; sys.modules['tvm'] = None\n"])
def test_an_artifact_runs_where_tvm_cannot_be_imported(dense: Path, block: str) -> None:
    done = python("-c", block + RUN, str(dense))
    assert done.stderr == ""
    assert done.stdout == "[[0.0, 0.0, 3.0, 6.0], [0.0, 0.0, 3.0, 6.0]]\n"


def test_an_artifact_runs_without_tvms_compiler_library(dense: Path, tmp_path: Path) -> None:
    """The wheel's package with the compiler deleted, as a device might have it."""
    lib = tmp_path / "tvm" / "lib"
    lib.mkdir(parents=True)
    (tmp_path / "tvm" / "__init__.py").write_text("raise ImportError('the compiler is missing')")
    shutil.copy(tvm_folder() / "lib" / library.LIBRARY, lib)
    done = python("-c", "import sys" + RUN, str(dense), PYTHONPATH=str(tmp_path))
    assert done.stderr == ""
    command = python("-m", "relaxc", "run", str(dense), "--shape", "x:2,3", PYTHONPATH=str(tmp_path))
    assert (command.returncode, command.stderr) == (0, "")
    needs_more = python("-m", "relaxc", "targets", PYTHONPATH=str(tmp_path))
    assert needs_more.returncode == 1
    assert needs_more.stderr.startswith("error: this needs TVM's compiler, which cannot be imported")


@pytest.mark.parametrize("chosen", ["folder", "folder/libtvm_runtime.so"])
def test_the_environment_may_name_the_file_or_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / library.LIBRARY
    file.touch()
    monkeypatch.setenv("RELAXC_TVM_RUNTIME", str(tmp_path / chosen))
    assert library.find_runtime(tmp_path / "elsewhere") == file


def test_a_wrong_choice_is_an_error_even_where_another_library_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAXC_TVM_RUNTIME", str(tmp_path))
    with pytest.raises(ArtifactError, match=r"was not found at .*RELAXC_TVM_RUNTIME"):
        library.find_runtime()


def test_a_library_beside_the_artifact_comes_before_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RELAXC_TVM_RUNTIME", raising=False)
    assert library.find_runtime(tmp_path) == tvm_folder() / "lib" / library.LIBRARY
    (tmp_path / library.LIBRARY).touch()
    assert library.find_runtime(tmp_path) == tmp_path / library.LIBRARY


def test_no_library_at_all_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELAXC_TVM_RUNTIME", raising=False)
    monkeypatch.setattr(library, "_tvm_folders", list)
    with pytest.raises(ArtifactError, match="install apache-tvm or set RELAXC_TVM_RUNTIME"):
        library.find_runtime()


def test_a_file_that_is_no_library_is_an_error(dense: Path, tmp_path: Path) -> None:
    (tmp_path / library.LIBRARY).write_text("no library")
    done = python("-m", "relaxc", "run", str(dense), RELAXC_TVM_RUNTIME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot load")
    assert done.stderr.count("\n") == 1
