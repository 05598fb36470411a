"""Runs a list of passes, leaving out and dumping what the options say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tvm

from ..passes.pipeline import NamedPass
from ..runtime.errors import RelaxcError
from .options import CompileOptions


def run_passes(module: tvm.IRModule, passes: Sequence[NamedPass], options: CompileOptions) -> tvm.IRModule:
    """``module`` after all ``passes`` that the options leave in.

    Raises:
        RelaxcError: a pass to leave out is unknown or required, or the dump cannot be written.
    """
    _check_disabled(passes, options.disabled_passes)
    _dump(module, options.dump_ir, "00_imported")
    for number, step in enumerate(passes, 1):
        if step.name not in options.disabled_passes:
            module = step.run(module)
            _dump(module, options.dump_ir, f"{number:02}_{step.name}")
    return module


def _check_disabled(passes: Sequence[NamedPass], disabled: frozenset[str]) -> None:
    optional = {step.name for step in passes if not step.required}
    for name in sorted(disabled - optional):
        raise RelaxcError(f"cannot disable pass {name!r}: choose among {', '.join(sorted(optional))}")


def _dump(module: tvm.IRModule, folder: Path | None, name: str) -> None:
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(module.script(show_meta=False))
    except OSError as error:
        raise RelaxcError(f"cannot dump to {folder}: {error.strerror}; choose a writable folder") from error
