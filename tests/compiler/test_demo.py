"""``relaxc demo``: from the download of a real model to a line of text that was read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from relaxc import TensorSpec
from relaxc.compiler.cli import demo as demo_command
from relaxc.compiler.cli import main


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["demo", *arguments])
    return int(exit_.value.code or 0)


def test_the_text_is_read_and_everything_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--text", "Hello, world 42", "--output", str(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^text rendered +Hello, world 42$", printed, re.MULTILINE)
    assert re.search(r"^text read +Hello, world 42$", printed, re.MULTILINE)
    assert re.search(r"MB, compiled in [\d.]+ s$", printed, re.MULTILINE)
    assert re.search(r"^latency +[\d.]+ ms +relaxc", printed, re.MULTILINE)
    assert re.search(r"^latency +[\d.]+ ms +ONNX Runtime", printed, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == ["ppocr_v4_rec.so"]


class BlindRecogniser:
    """Stands in for an executable that sees nothing but blanks."""

    inputs = (TensorSpec("x", (1, 3, 48, 320), "float32"),)

    def run(self, _: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"probabilities": np.eye(1, 6625, dtype=np.float32)[None]}


def test_a_text_read_wrongly_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = tmp_path / "ppocr_v4_rec.so"
    artifact.touch()
    monkeypatch.setattr(demo_command, "_compile", lambda *_: (BlindRecogniser(), 0.0))
    assert _run("--text", "one text", "--output", str(tmp_path)) == 1
    assert "not read as it was rendered" in capsys.readouterr().err


def test_an_output_that_is_no_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert _run("--output", str(tmp_path / "file")) == 1
    assert "cannot make the folder" in capsys.readouterr().err
