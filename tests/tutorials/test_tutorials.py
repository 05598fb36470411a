"""Every tutorial runs as it is printed: its Python blocks are files, its shell blocks are typed in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[2] / "tutorials"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(tutorial: Path) -> Iterator[tuple[str, str]]:
    for match in BLOCK.finditer(tutorial.read_text()):
        yield match[1], match[2]


def _save(program: str, folder: Path) -> None:
    """A block of Python names its file in its first line."""
    name = re.fullmatch(r"# (\w+\.py)", program.splitlines()[0])
    assert name, f"the first line of a Python block must be its file's name: {program.splitlines()[0]}"
    (folder / name[1]).write_text(program)


@pytest.mark.parametrize("tutorial", sorted(TUTORIALS.glob("*.md")), ids=lambda path: path.stem)
def test_tutorial_runs_as_printed(tutorial: Path, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, text in _blocks(tutorial):
        if language == "python":
            _save(text, tmp_path)
            continue
        result = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
