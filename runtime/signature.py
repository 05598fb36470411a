"""What travels inside an artifact beside its code: the signature."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

Dim = int | str
Kind = Literal["tensor", "sequence", "optional", "optional sequence"]

ALIGNMENT = 64
"""Bytes: tensors of the artifact and of a workspace begin at multiples of this."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: the model's own name for it.
        shape: an int for a fixed extent, a str for a symbolic one (a name, or an expression of names
            such as ``"height // 2"``).
        dtype: a NumPy or ml_dtypes name, such as ``"float32"`` or ``"bfloat16"``.
        kind: what a caller passes or gets: an array, a list of arrays of any number (shape and dtype are
            those of an entry), or None in place of either.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: str
    kind: Kind = "tensor"


@dataclass(frozen=True)
class PlacedTensor:
    """Where a tensor lies in the artifact's weight section, or in a run's workspace.

    Attributes:
        offset: bytes from the start of that memory, a multiple of 64.
        shape: extents, in the layout that the kernels read.
        dtype: element type.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.offset < 0 or self.offset % ALIGNMENT or min(self.shape, default=0) < 0:
            raise ValueError(f"no tensor of shape {self.shape} can begin at byte {self.offset}")


@dataclass(frozen=True)
class KernelSpec:
    """One kernel of an artifact, for reports.

    Attributes:
        name: the function's name in the library.
        template: which template scheduled it.
        calls: how many places of the program call it.
        flops: floating-point operations of one call, or None where they depend on symbolic extents.
        bytes_moved: bytes that one call reads and writes at least once, or None likewise.
        tuned: whether the schedule comes from the tuner's records, not from the template's default.
    """

    name: str
    template: str
    calls: int
    flops: int | None
    bytes_moved: int | None
    tuned: bool = False


@dataclass(frozen=True)
class Signature:
    """The contract of an artifact.

    Attributes:
        inputs, outputs: in the model's order.
        weights: in the order in which ``main`` takes them, after the inputs.
        kernels: what the library holds, for reports.
        target: the TVM target it was compiled for, as JSON text.
        cpu_features: features, named as in ``/proc/cpuinfo``, without which the code would crash.
        versions: of relaxc and TVM at compile time.
        source_hash: SHA-256 of the source model.
        precision: the precision option it was compiled with.
        workspace: intermediate tensors of fixed shape, which ``main`` takes after the weights. Those that are
            not in use at the same time share memory.
        results: for each output, the index in ``workspace`` of the tensor of which a caller gets a copy; None
            where a caller gets what ``main`` returns. Empty where all are None.
        shared: the outputs that later runs may read, as indices: a caller gets copies of them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[PlacedTensor, ...]
    kernels: tuple[KernelSpec, ...]
    target: str
    cpu_features: tuple[str, ...]
    versions: dict[str, str]
    source_hash: str
    precision: str = "fp32"
    workspace: tuple[PlacedTensor, ...] = ()
    results: tuple[int | None, ...] = ()
    shared: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        places = range(len(self.workspace))
        if len(self.results) not in (0, len(self.outputs)):
            raise ValueError(f"{len(self.outputs)} outputs cannot have {len(self.results)} results")
        if any(result is not None and result not in places for result in self.results):
            raise ValueError("a result lies outside of the workspace")

    def to_json(self) -> str:
        """The signature as JSON text; the same signature always gives the same text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Signature:
        """The inverse of ``to_json``. Raises KeyError, TypeError or ValueError on foreign text."""
        fields: dict[str, Any] = json.loads(text)
        # Artifacts of earlier versions have none.
        fields |= {"workspace": [], "results": [], "shared": []} | fields
        for key, spec in _ENTRIES.items():
            fields[key] = tuple(_thaw(spec, entry) for entry in fields[key])
        for key in ("cpu_features", "results", "shared"):
            fields[key] = tuple(fields[key])
        return cls(**fields)


_ENTRIES = {
    "inputs": TensorSpec,
    "outputs": TensorSpec,
    "weights": PlacedTensor,
    "workspace": PlacedTensor,
    "kernels": KernelSpec,
}


def _thaw(spec: type[Any], entry: dict[str, Any]) -> Any:
    return spec(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})
