"""relaxc compiles trained models into fast, self-contained shared libraries.

The public names are loaded on first use (PEP 562), so that ``import relaxc`` alone costs nothing and
a machine that only runs artifacts needs neither the TVM compiler nor onnx.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors as errors
    from .compiler.driver import compile as compile
    from .runtime import Executable as Executable
    from .runtime import TensorSpec as TensorSpec
    from .runtime import load as load

_HOMES = {
    "compile": ".compiler.driver",
    "Executable": ".runtime",
    "TensorSpec": ".runtime",
    "load": ".runtime",
}
_MODULES = {"errors": ".errors", "runtime": ".runtime"}

__version__ = "0.1.0"

__all__ = ["Executable", "TensorSpec", "compile", "errors", "load"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name], __name__)
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
