"""What a caller may ask of a compilation beyond the model and its target."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Report = Callable[[str], None]


def _silent(_message: str) -> None:
    pass


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)


@dataclass(frozen=True)
class CompileOptions:
    """Options of ``relaxc.compile``.

    Attributes:
        dump_ir: a folder that gets the module after each pass, as TVMScript.
        disabled_passes: names of passes to leave out.
        winograd: whether convolutions may go by Winograd's method. It is faster, and rounds more: its errors
            are about ten times those of direct convolution.
        strassen: whether tuning records may choose Strassen's algorithm for products. Nothing else does.
        report: is told, in one line each, what the compiler is at.
        notice: is told, in one line each, what the caller should know although nothing failed.
    """

    dump_ir: Path | None = None
    disabled_passes: frozenset[str] = frozenset()
    winograd: bool = True
    strassen: bool = True
    report: Report = _silent
    notice: Report = _warn
