"""The artifact's file: what is in it, and what is refused."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relaxc.compiler.artifact_writer import place_weights, write_artifact
from relaxc.runtime import atomic_file
from relaxc.runtime.artifact import PAGE, Artifact, Footer
from relaxc.runtime.errors import ArtifactError
from relaxc.runtime.signature import Signature, TensorSpec

LIBRARY = b"\x7fELF" + bytes(range(256)) * 30
WEIGHTS: list[np.ndarray[Any, Any]] = [
    np.arange(5, dtype=np.float32),
    np.arange(7, dtype=np.int8),
    np.zeros((0, 4), np.float64),
]
SIGNATURE = Signature(
    inputs=(TensorSpec("x", ("batch", 3), "float32"),),
    outputs=(TensorSpec("y", (2,), "bool"),),
    weights=place_weights(WEIGHTS),
    kernels=(),
    target="{}",
    cpu_features=(),
    versions={"tvm": "0.27.0"},
    source_hash="00",
)


def write(folder: Path, name: str = "model.so") -> Path:
    library = folder / "library.bin"
    library.write_bytes(LIBRARY)
    write_artifact(folder / name, library, SIGNATURE, WEIGHTS)
    library.unlink()
    return folder / name


def footer_of(path: Path) -> Footer:
    return Footer.unpack(path.read_bytes()[-Footer.SIZE :])


def test_library_weights_and_signature_come_back(tmp_path: Path) -> None:
    path = write(tmp_path)
    artifact = Artifact(path)
    assert path.read_bytes().startswith(LIBRARY)
    assert artifact.signature == SIGNATURE
    for spec, weight in zip(SIGNATURE.weights, WEIGHTS, strict=True):
        stored = np.frombuffer(artifact.weights, weight.dtype, weight.size, spec.offset)
        np.testing.assert_array_equal(stored.reshape(weight.shape), weight)


def test_weights_start_on_a_page_and_each_on_64_bytes(tmp_path: Path) -> None:
    assert footer_of(write(tmp_path)).weights_offset % PAGE == 0
    assert [spec.offset for spec in SIGNATURE.weights] == [0, 64, 128]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path, "a.so").read_bytes() == write(tmp_path, "b.so").read_bytes()


def test_a_signature_with_other_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "library").write_bytes(LIBRARY)
    with pytest.raises(ValueError, match="weights"):
        write_artifact(tmp_path / "model.so", tmp_path / "library", SIGNATURE, WEIGHTS[:1])


def test_truncation_anywhere_is_found(tmp_path: Path) -> None:
    whole = write(tmp_path).read_bytes()
    truncated = tmp_path / "truncated.so"
    for length in [0, 1, 64, Footer.SIZE, len(LIBRARY), *range(PAGE, len(whole), 97), len(whole) - 1]:
        truncated.write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match="not a relaxc artifact"):
            Artifact(truncated)


def test_bytes_lost_in_the_middle_are_found(tmp_path: Path) -> None:
    whole = write(tmp_path).read_bytes()
    (tmp_path / "short.so").write_bytes(whole[:PAGE] + whole[PAGE + 8 :])
    with pytest.raises(ArtifactError, match="do not add up"):
        Artifact(tmp_path / "short.so")


@pytest.mark.parametrize("part", ["library", "signature", "digest"])
def test_a_changed_byte_is_found(tmp_path: Path, part: str) -> None:
    path = write(tmp_path)
    position = {"library": 100, "signature": footer_of(path).signature_offset + 3, "digest": -1}[part]
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="checksum is wrong"):
        Artifact(path)


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    content = path.read_bytes()
    fields = dataclasses.replace(footer_of(path), format_version=99)
    path.write_bytes(content[: -Footer.SIZE] + fields.packed_fields() + fields.digest)
    with pytest.raises(ArtifactError, match=r"format 99.*compile the model again"):
        Artifact(path)


def test_a_signature_of_other_fields_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    text = b'{"hello":1}'
    head = path.read_bytes()[: footer_of(path).signature_offset]
    fields = dataclasses.replace(footer_of(path), signature_length=len(text))
    path.write_bytes(head + text + fields.packed_fields() + fields.digest_of(LIBRARY, text))
    with pytest.raises(ArtifactError, match="signature that this relaxc cannot read"):
        Artifact(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"hello" * 100, LIBRARY, bytes(1000)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ArtifactError, match="not a relaxc artifact"):
        Artifact(tmp_path / "other")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        Artifact(tmp_path / "missing.so")
    with pytest.raises(ArtifactError, match="is a folder"):
        Artifact(tmp_path)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashlib.sha256(write(tmp_path).read_bytes()).digest()

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ArtifactError, match=r"cannot write .*model.so: No space left on device"):
        write(tmp_path)
    (tmp_path / "library.bin").unlink()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.so"]
    assert hashlib.sha256((tmp_path / "model.so").read_bytes()).digest() == before


def test_a_failure_of_the_writer_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_file.atomic_file(tmp_path / "file") as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_impossible_places_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"missing does not exist"):
        atomic_file.check_writable(tmp_path / "missing" / "model.so")
    with pytest.raises(ArtifactError, match="it is a folder"):
        atomic_file.check_writable(tmp_path)
    with pytest.raises(ArtifactError, match=r"cannot write /proc/model.so: .*choose another folder"):
        atomic_file.check_writable("/proc/model.so")  # not even a superuser may
    atomic_file.check_writable(tmp_path / "model.so")
    assert list(tmp_path.iterdir()) == []
