"""CPUs for one measurement alone, whoever else measures on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..runtime.processor import allowed_cpus

_RETRY_SECONDS = 0.02


@contextlib.contextmanager
def claimed_cpus(count: int, folder: Path | None = None) -> Iterator[list[int]]:
    """Waits until ``count`` of the CPUs that this process may use (or all of them) are nobody else's.

    The last ones come first, since interrupts prefer the first ones. A claim is a lock on a file in
    ``folder``, by default the system's for temporary files; it ends with the process at the latest.
    """
    folder = folder or Path(tempfile.gettempdir())
    wanted = min(count, len(allowed_cpus()))
    with contextlib.ExitStack() as claims:
        while len(cpus := _claim(wanted, folder, claims)) < wanted:
            claims.close()  # two that wait for each other's CPUs would wait for ever
            time.sleep(_RETRY_SECONDS)
        yield cpus


def _claim(count: int, folder: Path, claims: contextlib.ExitStack) -> list[int]:
    """As many free CPUs as there are, up to ``count``; ``claims`` gives them back."""
    cpus: list[int] = []
    for cpu in reversed(allowed_cpus()):
        if len(cpus) == count:
            break
        descriptor = _open(folder / f"relaxc-measures-on-cpu-{cpu}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        claims.callback(os.close, descriptor)
        cpus.append(cpu)
    return cpus


def _open(path: Path) -> int:
    """Another user's file in a shared folder cannot be written, but a lock takes no more than reading."""
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT, 0o644)
