"""The wheel holds the whole package and nothing else, and what it holds can be imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SHIPPED = ("tests", "benchmarks", "tutorials", "docs", "build", "dist")


def _packages() -> set[str]:
    """Every folder with an ``__init__.py``, as a package name."""
    found = {path.parent.relative_to(ROOT) for path in ROOT.rglob("__init__.py")}
    ours = (p for p in found if not p.parts or not (p.parts[0] in NOT_SHIPPED or p.parts[0].startswith(".")))
    return {".".join(("relaxc", *path.parts)) for path in ours}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no earlier build leaves files in it.

    Tests that run beside this one write byte code, under names that may be gone before they are copied.
    """
    source, output = tmp_path_factory.mktemp("source") / "relaxc", tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", *NOT_SHIPPED, "__pycache__", "*.egg-info", "*.so")
    shutil.copytree(ROOT, source, ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(output)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    return next(output.glob("relaxc-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return target


def _run(installed: Path, *arguments: str) -> str:
    """Standard output of a Python that finds the installed wheel before this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, *arguments]
    result = subprocess.run(
        command, cwd=installed, env=environment, check=True, capture_output=True, text=True
    )
    return result.stdout


def test_pyproject_lists_every_package() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(configuration["tool"]["setuptools"]["packages"]) == _packages()


def test_the_wheel_holds_every_module_and_the_typing_marker(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("relaxc/")}
    folders = [ROOT.joinpath(*package.split(".")[1:]) for package in _packages()]
    modules = {f"relaxc/{path.relative_to(ROOT)}" for folder in folders for path in folder.glob("*.py")}
    assert names == modules | {"relaxc/py.typed", "relaxc/autotune/report.html.j2"}


def test_importing_the_installed_package_loads_neither_the_compiler_nor_onnx(installed: Path) -> None:
    program = """
import sys, relaxc, relaxc.runtime
print(relaxc.__file__)
print(sorted({"tvm", "onnx", "typer"} & set(sys.modules)))
"""
    location, loaded = _run(installed, "-c", program).splitlines()
    assert Path(location).is_relative_to(installed)
    assert loaded == "[]"


def test_the_installed_command_runs(installed: Path) -> None:
    assert "native" in _run(installed, "-m", "relaxc", "targets")
