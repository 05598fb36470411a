"""Loads and runs artifacts. This is what ships to a device: it needs numpy, ml_dtypes and tvm_ffi only."""

from __future__ import annotations

from . import errors
from .executable import Executable, load
from .signature import TensorSpec

__all__ = ["Executable", "TensorSpec", "errors", "load"]
