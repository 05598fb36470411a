"""The shared secret: whoever has it may run code on the devices."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from ...runtime.errors import RelaxcError

ENVIRONMENT_VARIABLE = "RELAXC_RPC_SECRET"

# A stranger can take guesses home (``identity.py``), so a secret must be one that nobody can guess.
_SHORTEST = 32
_RANDOM_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(file: Path | None, environment: Mapping[str, str] = os.environ) -> bytes:
    """The secret out of ``file``, or else out of ``RELAXC_RPC_SECRET``.

    No option takes the secret itself: every user of a machine can read the command lines of its processes.

    Raises:
        RelaxcError: there is no secret, it is too short, or others may read its file.
    """
    if file is not None:
        return _long_enough(_private_content(file), str(file))
    text = environment.get(ENVIRONMENT_VARIABLE, "")
    if not text:
        raise RelaxcError(
            f"measuring over RPC needs a shared secret: give --secret-file, or set {ENVIRONMENT_VARIABLE} "
            f"(`relaxc rpc secret FILE` makes a secret)"
        )
    return _long_enough(text.encode(), ENVIRONMENT_VARIABLE)


def write_new_secret(file: Path) -> None:
    """Writes a random secret into a new file that only its owner may read.

    Raises:
        RelaxcError: the file exists, or cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    except OSError as error:
        raise RelaxcError(f"cannot write the secret to {file}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_urlsafe(_RANDOM_BYTES) + "\n")


def _private_content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            # Of the open file, not of its name: that could meanwhile stand for another.
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read()
    except OSError as error:
        raise RelaxcError(f"cannot read the secret in {file}: {error.strerror}") from error
    if mode & _OTHERS:
        raise RelaxcError(f"the secret in {file} is open to other users: chmod 600 {file}")
    return content


def _long_enough(content: bytes, origin: str) -> bytes:
    secret = content.strip()
    if len(secret) < _SHORTEST:
        raise RelaxcError(
            f"the secret in {origin} has {len(secret)} characters and needs {_SHORTEST} or more: "
            f"`relaxc rpc secret FILE` makes one"
        )
    return secret
