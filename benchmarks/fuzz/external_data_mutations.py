"""Weights outside of the file that are missing, elsewhere, or of another size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto

from .mutation_table import Generator, breaks, some

DATA_FILE = "weights.bin"
DATA_BYTES = 1000

_LOCATIONS = (
    DATA_FILE, "missing.bin", "", ".", "..", "../weights.bin", "../../etc/passwd", "/etc/passwd", "/dev/zero",
    "/proc/self/mem", "folder/../../weights.bin", "a\0b", "link.bin", "x" * 5000, "~/weights.bin",
    "model.onnx",
)  # fmt: skip
_NUMBERS = ("-1", "0", "1", "999", "1000", "1001", str(2**40), str(2**64), "", "ten", "1e3", " 5")


@breaks
def external_location(model: onnx.ModelProto, generator: Generator) -> bool:
    """A weight is said to lie in another file."""
    return _externalize(model, generator, {"location": str(some(_LOCATIONS, generator))})


@breaks
def external_extent(model: onnx.ModelProto, generator: Generator) -> bool:
    """A weight is said to lie at a place of a file of ``DATA_BYTES`` bytes where there may be nothing."""
    numbers = {key: str(some(_NUMBERS, generator)) for key in ("offset", "length") if generator.integers(3)}
    return _externalize(model, generator, {"location": DATA_FILE, **numbers})


def write_external_data(folder: Path) -> None:
    """The file that ``DATA_FILE`` names, and a link out of the folder."""
    (folder / DATA_FILE).write_bytes(bytes(DATA_BYTES))
    (folder / "link.bin").symlink_to("/etc/passwd")


def _externalize(model: onnx.ModelProto, generator: Generator, entries: Mapping[str, str]) -> bool:
    tensor = some(model.graph.initializer, generator)
    if tensor is None:
        return False
    for data in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
        tensor.ClearField(data)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return True
