"""What makes two kernels the same for the tuner: schedules found for one serve the other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx

from .templates.base import Template


@dataclass(frozen=True)
class KernelIdentity:
    """A kernel without its names.

    Attributes:
        template: which template takes it.
        version: the template's version.
        structure: a hash of the unscheduled function, in hexadecimal: the same in every process, whatever the
            function, its buffers and its variables are called.
    """

    template: str
    version: int
    structure: str

    def __str__(self) -> str:
        return f"{self.template}.v{self.version}:{self.structure}"


def identify(function: tirx.PrimFunc, template: Template) -> KernelIdentity:
    """The identity of an unscheduled ``function`` that ``template`` takes."""
    nameless = function.with_attr("global_symbol", "")
    structure = int(tvm_ffi.structural_hash(nameless)) & (2**64 - 1)
    return KernelIdentity(template.name, template.version, f"{structure:016x}")


def identify_operator(choice: str, version: int, extents: object) -> KernelIdentity:
    """The key of a choice of algorithms for an operator whose ``extents`` are a data class of integers."""
    text = " ".join(f"{name}={value}" for name, value in vars(extents).items())
    return KernelIdentity(choice, version, hashlib.sha256(text.encode()).hexdigest()[:16])
