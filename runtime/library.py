"""Finding and loading TVM's runtime library. Nothing here imports ``tvm``."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import ArtifactError

LIBRARY = "libtvm_runtime.so"
ENVIRONMENT_VARIABLE = "RELAXC_TVM_RUNTIME"

# Sorting and random numbers live in this one, which is looked for beside the first.
_EXTRA_LIBRARY = "libtvm_runtime_extra.so"
_lock = threading.Lock()
_loaded: Any = None


def load_runtime(beside: Path | None = None) -> Any:
    """Loads the runtime library unless this process has it already, and returns the module ``tvm_ffi``.

    Args:
        beside: a folder to look in, usually the artifact's.

    Raises:
        ArtifactError: no library was found, or it cannot be loaded.
    """
    global _loaded
    if _loaded is not None:
        return _loaded
    with _lock:
        # TVM would bind the i-th worker of every pool to the i-th CPU of the machine, even where the process
        # may not use that CPU or another caller's pool sits there already.
        os.environ.setdefault("TVM_BIND_THREADS", "0")
        tvm_ffi = _import_tvm_ffi()
        if tvm_ffi.get_global_func("runtime.NumThreads", allow_missing=True) is None:
            path = find_runtime(beside)
            _dlopen(path)
            if (extra := path.with_name(_EXTRA_LIBRARY)).exists():
                _dlopen(extra)
        _loaded = tvm_ffi
    return tvm_ffi


def find_runtime(beside: Path | None = None) -> Path:
    """The runtime library's path: the environment's choice, else beside the artifact, in relaxc, in tvm.

    Raises:
        ArtifactError: there is none.
    """
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    for candidate in [Path(chosen)] if chosen else _candidates(beside):
        path = candidate / LIBRARY if candidate.is_dir() else candidate
        if path.is_file():
            return path.absolute()
    where = f"at {chosen} ({ENVIRONMENT_VARIABLE})" if chosen else "beside the artifact, in relaxc or in tvm"
    raise ArtifactError(
        f"{LIBRARY} was not found {where}; install apache-tvm or set {ENVIRONMENT_VARIABLE} to the file"
    )


@functools.cache
def tvm_version() -> str | None:
    """The installed TVM's version, or None where only its library lies on the machine."""
    try:
        return importlib.metadata.version("apache-tvm")
    except importlib.metadata.PackageNotFoundError:
        return None


def _candidates(beside: Path | None) -> Iterator[Path]:
    if beside is not None:
        yield beside / LIBRARY
    yield Path(__file__).parents[1] / LIBRARY
    yield Path(__file__).parent / LIBRARY
    for folder in _tvm_folders():
        yield folder / "lib" / LIBRARY


def _tvm_folders() -> Iterator[Path]:
    """Where the package ``tvm`` lies, found without importing it, or even where its import is blocked."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("tvm")
        yield from map(Path, (spec.submodule_search_locations or ()) if spec else ())
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        yield Path(str(importlib.metadata.distribution("apache-tvm").locate_file("tvm")))


def _dlopen(path: Path) -> None:
    try:
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise ArtifactError(f"cannot load {path}: {error}") from error


def _import_tvm_ffi() -> Any:
    with _torch_hidden():
        try:
            import tvm_ffi
        except ImportError as error:
            raise ArtifactError(f"cannot import tvm_ffi ({error}); install apache-tvm-ffi") from error
    return tvm_ffi


@contextlib.contextmanager
def _torch_hidden() -> Iterator[None]:
    """tvm_ffi imports torch where it is installed, which takes a second and is of no use here."""
    if "torch" in sys.modules or "tvm_ffi" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # makes "import torch" an ImportError
    try:
        yield
    finally:
        del sys.modules["torch"]
