"""Writing a file so that it is either there and whole, or not there at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import ArtifactError


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a temporary file beside ``path`` that takes its place when the block ends without an error.

    Raises:
        ArtifactError: the file cannot be written (no such folder, no permission, disk full, ``path`` is a
            folder). An older file at ``path`` is then untouched and nothing new is left behind.
    """
    target = Path(path)
    _check_place(target)
    temporary = _temporary_name(target)
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises ArtifactError where a file at ``path`` could not be created, before any long work is done."""
    target = Path(path)
    _check_place(target)
    probe = _temporary_name(target)
    try:
        with open(probe, "xb"):
            pass
        probe.unlink()
    except OSError as error:
        raise _cannot_write(target, error) from error


def _check_place(target: Path) -> None:
    if target.is_dir():
        raise ArtifactError(f"cannot write {target}: it is a folder; give the name of a file")
    if not target.parent.is_dir():
        raise ArtifactError(
            f"cannot write {target}: the folder {target.parent} does not exist; create it first"
        )


def _temporary_name(target: Path) -> Path:
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"


def _cannot_write(target: Path, error: OSError) -> ArtifactError:
    reason = error.strerror or str(error)
    return ArtifactError(f"cannot write {target}: {reason}; make room or choose another folder")
