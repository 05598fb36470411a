"""The artifact's file format: one file that is a shared library and carries weights and signature behind it.

    offset 0            the ELF shared library
    multiple of 4096    weights, raw and little-endian, each at a multiple of 64 bytes
                        signature, JSON in UTF-8
    last 92 bytes       footer: magic, format version, lengths and offsets, SHA-256

The dynamic loader ignores what follows the library, so the whole file can be handed to it. The digest
covers the library, the signature and the footer's own fields, but not the weights, which may be hundreds
of megabytes that a load must not read; that they are complete follows from the offsets, which must add up
to the file's length exactly.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .errors import ArtifactError
from .signature import Signature

FORMAT_VERSION = 1
PAGE = 4096

_ELF_MAGIC = b"\x7fELF"


@dataclass(frozen=True)
class Footer:
    """Where the parts of an artifact lie, in bytes from the start of the file.

    Attributes:
        format_version: of the file format, ``FORMAT_VERSION`` when written.
        digest: SHA-256 of library, signature and the fields above; see ``digest_of``.
    """

    format_version: int
    library_length: int
    weights_offset: int
    weights_length: int
    signature_offset: int
    signature_length: int
    digest: bytes = b""

    MAGIC: ClassVar[bytes] = b"relaxc\x1a\n"
    FIELDS: ClassVar[struct.Struct] = struct.Struct("<8sI5Q")
    SIZE: ClassVar[int] = FIELDS.size + 32

    def packed_fields(self) -> bytes:
        """Everything but the digest."""
        return self.FIELDS.pack(
            self.MAGIC,
            self.format_version,
            self.library_length,
            self.weights_offset,
            self.weights_length,
            self.signature_offset,
            self.signature_length,
        )

    def digest_of(self, library: bytes | memoryview, signature: bytes | memoryview) -> bytes:
        """The digest that belongs into a footer with these fields."""
        digest = hashlib.sha256(library)
        digest.update(signature)
        digest.update(self.packed_fields())
        return digest.digest()

    @classmethod
    def unpack(cls, raw: bytes) -> Footer:
        """Raises ValueError where ``raw`` is no footer."""
        magic, version, library, weights, weights_length, signature, length = cls.FIELDS.unpack_from(raw)
        if magic != cls.MAGIC:
            raise ValueError("no footer")
        digest = raw[cls.FIELDS.size :]
        return cls(version, library, weights, weights_length, signature, length, digest)

    def fits(self, file_length: int) -> bool:
        """Whether the parts follow one another and end where the file ends."""
        return (
            self.library_length <= self.weights_offset
            and self.weights_offset % PAGE == 0
            and self.weights_offset + self.weights_length == self.signature_offset
            and self.signature_offset + self.signature_length + self.SIZE == file_length
        )


class Artifact:
    """An open and checked artifact file.

    The file stays open, so that it can still be copied after its name has been taken by another file.

    Attributes:
        path: where it was opened.
        identity: device and inode of the file.
        signature: what it says about itself.
        weights: the weight section, mapped copy-on-write: its pages are the page cache's, shared by every
            process that runs this artifact, and writing to them would never reach the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens and checks the file; runs none of its code.

        Raises:
            ArtifactError: the file is missing, is no artifact, is truncated or damaged, or was written in
                another version of the format.
        """
        self.path = Path(path).absolute()
        self._descriptor = _open(self.path)
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self._length = status.st_size
        contents = _map(self.path, self._descriptor, self._length)
        footer = _read_footer(self.path, contents)
        self.signature = _read_signature(self.path, contents, footer)
        self.weights = memoryview(contents)[footer.weights_offset : footer.signature_offset]

    def copy_to(self, stream_descriptor: int) -> None:
        """Writes the whole file to an open descriptor."""
        offset = 0
        while offset < self._length:
            sent = os.sendfile(stream_descriptor, self._descriptor, offset, self._length - offset)
            if sent == 0:
                raise OSError(f"{self.path} became shorter while it was copied")
            offset += sent


def _open(path: Path) -> int:
    try:
        if path.is_dir():
            raise ArtifactError(f"{path} is a folder, not an artifact")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ArtifactError(f"no such file: {path}; make it with relaxc compile") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error


def _map(path: Path, descriptor: int, length: int) -> mmap.mmap:
    if length < Footer.SIZE:
        raise ArtifactError(f"{path} is not a relaxc artifact: it has only {length} bytes")
    try:
        return mmap.mmap(descriptor, length, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise ArtifactError(f"cannot map {path} into memory: {error.strerror}") from error


def _read_footer(path: Path, contents: mmap.mmap) -> Footer:
    try:
        footer = Footer.unpack(contents[-Footer.SIZE :])
    except ValueError:
        if contents[: len(_ELF_MAGIC)] == _ELF_MAGIC:
            cause = (
                "a shared library without a relaxc footer; it was truncated, stripped, or not made by relaxc"
            )
        else:
            cause = "not a shared library; expected the output of relaxc compile"
        raise ArtifactError(f"{path} is not a relaxc artifact: {cause}") from None
    if footer.format_version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has artifact format {footer.format_version}, this relaxc reads format {FORMAT_VERSION}; "
            "compile the model again with this relaxc"
        )
    if not footer.fits(len(contents)):
        raise ArtifactError(
            f"{path} is damaged: its parts do not add up to its length; copy or compile it again"
        )
    return footer


def _read_signature(path: Path, contents: mmap.mmap, footer: Footer) -> Signature:
    with memoryview(contents) as view:
        library = view[: footer.library_length]
        text = view[footer.signature_offset : footer.signature_offset + footer.signature_length]
        intact = footer.digest_of(library, text) == footer.digest
        encoded = bytes(text)
        library.release()
        text.release()
    if not intact:
        raise ArtifactError(f"{path} is damaged: its checksum is wrong; copy or compile it again")
    try:
        return Signature.from_json(encoded.decode())
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} has a signature that this relaxc cannot read ({error}); compile the model again"
        ) from error
