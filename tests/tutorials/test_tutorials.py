"""Every tutorial runs as it is printed: its Python blocks are files, its shell blocks are typed in order."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[2] / "tutorials"
PRINTED_PORT = "9190"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(tutorial: Path) -> Iterator[tuple[str, str]]:
    for match in BLOCK.finditer(tutorial.read_text()):
        yield match[1], match[2]


def _save(program: str, folder: Path) -> None:
    """A block of Python names its file in its first line."""
    name = re.fullmatch(r"# (\w+\.py)", program.splitlines()[0])
    assert name, f"the first line of a Python block must be its file's name: {program.splitlines()[0]}"
    (folder / name[1]).write_text(program)


@pytest.fixture
def port() -> Iterator[str]:
    """One that nobody gets by chance as long as the test runs: it is bound, but does not listen."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield str(reserved.getsockname()[1])


@pytest.mark.parametrize("tutorial", sorted(TUTORIALS.glob("*.md")), ids=lambda path: path.stem)
def test_tutorial_runs_as_printed(tutorial: Path, tmp_path: Path, port: str) -> None:
    """But for the port of the tracker, which somebody else may use on this machine."""
    groups: list[int] = []
    try:
        for language, text in _blocks(tutorial):
            if language == "python":
                _save(text, tmp_path)
            else:
                _type(text.replace(PRINTED_PORT, port), tmp_path, groups)
    finally:
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def _type(text: str, folder: Path, groups: list[int]) -> None:
    """Runs a block of shell commands. What it leaves in the background is in a process group of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", "-e", "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        groups.append(shell.pid)
        output, errors = shell.communicate()
    assert shell.returncode == 0, f"{text}\n{output}\n{errors}"
