"""Real models that wheels on the package index carry, fetched once and kept in a cache folder.

Only the model is taken out of a wheel: nothing is installed, and none of the wheel's code runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import RelaxcError


@dataclass(frozen=True)
class WheelFile:
    """One file inside a published wheel.

    Attributes:
        requirement: the wheel, pinned (``name==version``).
        member: the file's path inside the wheel.
        sha256: of the file, in hexadecimal.
    """

    requirement: str
    member: str
    sha256: str


_RAPIDOCR = "rapidocr-onnxruntime==1.4.4"
_NUDENET = "nudenet==3.4.2"
_SILERO = "silero-vad==6.2.3"

PUBLISHED_MODELS: Mapping[str, WheelFile] = {
    "ppocr_v4_det": WheelFile(
        _RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "ppocr_v4_rec": WheelFile(
        _RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "ppocr_v2_cls": WheelFile(
        _RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    "nudenet_320n": WheelFile(
        _NUDENET,
        "nudenet/320n.onnx",
        "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
    ),
    "silero_vad": WheelFile(
        _SILERO,
        "silero_vad/data/silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    ),
    "silero_vad_16k_op15": WheelFile(
        _SILERO,
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
    "silero_vad_16k_sequence": WheelFile(
        _SILERO,
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
    ),
    "silero_vad_half": WheelFile(
        _SILERO,
        "silero_vad/data/silero_vad_half.onnx",
        "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
    ),
    "silero_vad_op18_ifless": WheelFile(
        _SILERO,
        "silero_vad/data/silero_vad_op18_ifless.onnx",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
    ),
    "silero_vad_openvino_16k": WheelFile(
        _SILERO,
        "silero_vad/data/silero_vad_openvino_16k.onnx",
        "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
    ),
}


def fetch(name: str) -> Path:
    """The path of a published model, downloaded on first use.

    Args:
        name: a key of ``PUBLISHED_MODELS``.

    Raises:
        RelaxcError: the name is unknown, the download failed, or the file is not the expected one.
    """
    if name not in PUBLISHED_MODELS:
        known = ", ".join(PUBLISHED_MODELS)
        raise RelaxcError(f"unknown published model {name!r}: choose one of {known}")
    return fetch_from_wheel(PUBLISHED_MODELS[name])


def fetch_from_wheel(file: WheelFile) -> Path:
    """The path of a cached copy of one file of a wheel, which is downloaded if the copy is absent or damaged.

    Raises:
        RelaxcError: the download failed, the wheel lacks the file, or its hash differs.
    """
    cached = _cached_path(file)
    if cached.is_file() and _sha256(cached) == file.sha256:
        return cached
    with tempfile.TemporaryDirectory(prefix="relaxc-wheel-") as folder:
        wheel = _download_wheel(file.requirement, Path(folder))
        for sibling in (file, *PUBLISHED_MODELS.values()):
            if sibling.requirement == file.requirement:
                _extract(wheel, sibling)
    return cached


def cache_folder() -> Path:
    """Where fetched files are kept: $RELAXC_CACHE, else $XDG_CACHE_HOME/relaxc, else ~/.cache/relaxc.

    Raises:
        RelaxcError: there is neither, and the user has no home folder.
    """
    if own := os.environ.get("RELAXC_CACHE"):
        return Path(own)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "relaxc"
    try:
        return Path.home() / ".cache" / "relaxc"
    except RuntimeError as error:
        raise RelaxcError("no home folder to keep models in; set RELAXC_CACHE to a folder") from error


def _cached_path(file: WheelFile) -> Path:
    return cache_folder() / "wheels" / file.requirement.replace("==", "-") / Path(file.member).name


def _download_wheel(requirement: str, folder: Path) -> Path:
    # A model does not care which Python runs, so the wheel's own requirement is ignored.
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = (result.stderr.strip() or "no message").splitlines()[-1]
        raise RelaxcError(f"cannot download the wheel {requirement}: {reason}; check the network and pip")
    return next(folder.glob("*.whl"))


def _extract(wheel: Path, file: WheelFile) -> None:
    """Put one file of the wheel into the cache: whole and checked, or not at all."""
    destination = _cached_path(file)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".incoming-") as folder:
            incoming = Path(folder) / destination.name
            with zipfile.ZipFile(wheel) as archive:
                _copy_member(archive, file.member, incoming)
            if (found := _sha256(incoming)) != file.sha256:
                raise RelaxcError(
                    f"{file.member} of {file.requirement} is not the expected file: SHA-256 is {found}"
                )
            incoming.replace(destination)
    except (KeyError, zipfile.BadZipFile) as error:
        raise RelaxcError(f"the wheel {file.requirement} does not hold a readable {file.member}") from error
    except OSError as error:
        raise RelaxcError(
            f"cannot write {destination}: {error.strerror}; set RELAXC_CACHE to another folder"
        ) from error


def _copy_member(archive: zipfile.ZipFile, member: str, destination: Path) -> None:
    with archive.open(member) as source, destination.open("wb") as sink:
        shutil.copyfileobj(source, sink)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
