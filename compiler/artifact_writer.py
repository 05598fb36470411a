"""Writing the artifact: library, weights and signature in one file (the format: runtime/artifact.py)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..runtime.artifact import FORMAT_VERSION, PAGE, Footer
from ..runtime.atomic_file import atomic_file
from ..runtime.signature import ALIGNMENT, PlacedTensor, Signature
from ..runtime.tensors import ElementType


def place_weights(weights: Iterable[np.ndarray[Any, Any]]) -> tuple[PlacedTensor, ...]:
    """Where each weight will lie in the weight section; a signature needs this before it can be written."""
    specs = []
    offset = 0
    for weight in weights:
        specs.append(PlacedTensor(offset, weight.shape, weight.dtype.name))
        offset = _aligned(offset + weight.nbytes, ALIGNMENT)
    return tuple(specs)


def write_artifact(
    path: str | os.PathLike[str],
    library_file: str | os.PathLike[str],
    signature: Signature,
    weights: Sequence[np.ndarray[Any, Any]],
) -> None:
    """Writes an artifact; the same arguments give the same bytes.

    Args:
        path: where to; an older file is replaced at the end, when the new one is whole.
        library_file: the shared library that TVM exported.
        signature: whose ``weights`` must be those of ``place_weights(weights)``.
        weights: in the order in which ``main`` takes them.

    Raises:
        ArtifactError: the file cannot be written.
        ValueError: signature and weights contradict one another.
    """
    if signature.weights != place_weights(weights):
        raise ValueError("the signature's weights are not those that are to be written")
    library = Path(library_file).read_bytes()
    text = signature.to_json().encode()
    weights_offset = _aligned(len(library), PAGE)
    weights_length = signature.weights[-1].offset + weights[-1].nbytes if weights else 0
    fields = (len(library), weights_offset, weights_length, weights_offset + weights_length, len(text))
    footer = Footer(FORMAT_VERSION, *fields)
    with atomic_file(path) as stream:
        stream.write(library)
        for spec, weight in zip(signature.weights, weights, strict=True):
            _pad_to(stream, weights_offset + spec.offset)
            stream.write(_raw(weight))
        _pad_to(stream, footer.signature_offset)
        stream.write(text)
        stream.write(footer.packed_fields() + footer.digest_of(library, text))


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _pad_to(stream: BinaryIO, offset: int) -> None:
    stream.write(bytes(offset - stream.tell()))


def _raw(weight: np.ndarray[Any, Any]) -> memoryview:
    """The bytes that the kernels read: C order, little-endian; a copy only where it is not so already."""
    staging = ElementType.named(weight.dtype.name).staging
    little = np.ascontiguousarray(weight, staging.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data
