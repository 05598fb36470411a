"""What the workers do with a broken file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import relaxc

from ..outcome import Outcome, failure
from .mutated import MutatedFile

MEMORY_LIMIT = 4 << 30


def compile_broken_file(file: MutatedFile) -> Outcome:
    """Compiles and saves: passes if that works, or ends in a RelaxcError of one line and leaves no file."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as output:
        path = file.write(Path(folder))
        try:
            relaxc.compile(path).save(Path(output) / "model.so")
        except relaxc.errors.RelaxcError as error:
            return _refused(str(error), Path(output))
        except MemoryError:
            return failure("out of memory", f"more than {MEMORY_LIMIT >> 30} GB were asked for")
        except Exception as error:
            return failure(f"internal error: {type(error).__name__}", str(error))
    return Outcome(True, reason="compiled")


def _refused(message: str, output: Path) -> Outcome:
    if not message.strip() or len(message.splitlines()) > 1:
        return failure("message", f"is not one line: {message!r}")
    if left := [path.name for path in output.iterdir()]:
        return failure("half-written file", ", ".join(left))
    return Outcome(True, reason=f"refused: {message}")
