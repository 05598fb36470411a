"""The errors that relaxc raises on purpose, under their public name: those of ``relaxc.runtime.errors``."""

from __future__ import annotations

from .runtime.errors import (
    ArtifactError,
    InvalidModelError,
    RelaxcError,
    ShapeError,
    StaticInputRequired,
    TargetError,
    UnsupportedOperatorError,
)

__all__ = [
    "ArtifactError",
    "InvalidModelError",
    "RelaxcError",
    "ShapeError",
    "StaticInputRequired",
    "TargetError",
    "UnsupportedOperatorError",
]
