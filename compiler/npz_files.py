"""Arrays by name in ``.npz`` files, for the commands."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.atomic_file import atomic_file
from ..runtime.errors import RelaxcError
from ..runtime.signature import TensorSpec
from ..runtime.tensors import ElementType

Arrays = dict[str, np.ndarray[Any, Any]]


def read_npz(path: Path, specs: Sequence[TensorSpec] = ()) -> Arrays:
    """All arrays of a file.

    Args:
        path: the file.
        specs: NumPy's format has no name for bfloat16 and its like and stores them as plain bytes; an array
            of bytes whose name is here gets the dtype that is stated here.

    Raises:
        RelaxcError: the file is missing, damaged, or holds anything but plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise RelaxcError(f"{path} is a single .npy array; save named arrays with numpy.savez")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise RelaxcError(f"no such file: {path}") from None
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise RelaxcError(
            f"cannot read {path}: it is no .npz file of plain arrays, or is damaged; make it with numpy.savez"
        ) from error
    dtypes = {spec.name: ElementType.named(spec.dtype).numpy for spec in specs}
    return {name: _named_dtype(array, dtypes.get(name)) for name, array in arrays.items()}


def write_npz(path: Path, values: Mapping[str, Any]) -> None:
    """Writes outputs; the entries of a list become ``name_0``, ``name_1``, ..., and None is left out.

    Raises:
        ArtifactError: the file cannot be written.
    """
    with atomic_file(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, array in flat(values):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def flat(values: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The arrays among a model's outputs, those of a sequence numbered."""
    for name, value in values.items():
        if isinstance(value, list):
            yield from flat({f"{name}_{index}": entry for index, entry in enumerate(value)})
        elif value is not None:
            yield name, value


def _named_dtype(array: np.ndarray[Any, Any], dtype: np.dtype[Any] | None) -> np.ndarray[Any, Any]:
    raw = array.dtype.kind == "V" and array.dtype.names is None
    return array.view(dtype) if raw and dtype and dtype.itemsize == array.dtype.itemsize else array
