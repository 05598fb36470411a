"""What every frontend hands on: a Relax module and the names its user knows."""

from __future__ import annotations

from dataclasses import dataclass

import tvm

from ..runtime.signature import TensorSpec


@dataclass(frozen=True)
class ImportedModel:
    """A model in Relax.

    Attributes:
        module: holds the function ``main``, whose parameters are ``inputs`` in order and whose result
            is always a tuple of ``outputs`` in order. Weights are constants. Symbolic dimensions are
            TIR variables named as in ``inputs``.
        inputs: what a caller passes at run time (static inputs are gone from here).
        outputs: what a caller gets back.
        source_hash: SHA-256 of the source file, or of the serialized model, in hexadecimal.
    """

    module: tvm.IRModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    source_hash: str
