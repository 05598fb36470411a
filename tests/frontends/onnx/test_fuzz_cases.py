"""Parts of random models that once failed (``make fuzz`` adds them), and a sample of broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import relaxc
from benchmarks.fuzz.broken_files import MEMORY_LIMIT, compile_broken_file
from benchmarks.fuzz.corpus import load_corpus
from benchmarks.fuzz.judgement import differences
from benchmarks.fuzz.mutated import MUTATIONS, mutated_files
from benchmarks.isolation import run_isolated

CASES = sorted((Path(__file__).parent / "fuzz_cases").glob("*.onnx"))
SECONDS = 20


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_what_once_failed_agrees_with_the_reference(path: Path) -> None:
    with (
        np.load(path.with_suffix(".npz")) as feed,
        np.load(path.with_suffix(".expected.npz")) as expected,
    ):
        actual = relaxc.compile(onnx.load(path)).run(dict(feed))
        assert [str(error) for error in differences(dict(expected), actual)] == []


def test_files_broken_in_every_way_compile_or_are_refused_in_one_line() -> None:
    files = mutated_files(load_corpus(only_installed=True), 0, len(MUTATIONS))
    outcomes = run_isolated(compile_broken_file, files, 1, SECONDS, memory_limit=MEMORY_LIMIT)
    wrong = [
        f"{file.name}: {outcome.cause}: {outcome.reason}"
        for file, outcome in zip(files, outcomes, strict=True)
        if not outcome.passed
    ]
    assert not wrong, "\n".join(wrong)
