"""Comparing results as onnx's own runner does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.backend.test.runner import Runner


def assert_as_expected(expected: Sequence[Any], actual: Sequence[Any], rtol: float, atol: float) -> None:
    """Raises AssertionError unless all values have equal types, shapes and, within tolerances, elements.

    Sequences and absent optionals, which onnx's runner is lax about, must match entry by entry.
    """
    _assert_same_length("outputs", expected, actual)
    for wanted, got in zip(expected, actual, strict=True):
        if wanted is None or got is None:
            assert wanted is got, f"{_kind(wanted)} was expected, {_kind(got)} came"
        elif isinstance(wanted, list | tuple):
            assert isinstance(got, list | tuple), f"a sequence was expected, {_kind(got)} came"
            _assert_same_length("entries of a sequence", wanted, got)
            assert_as_expected(wanted, got, rtol, atol)
        else:
            assert not isinstance(got, list | tuple), "a tensor was expected, a sequence came"
            Runner.assert_similar_outputs([np.asarray(wanted)], [np.asarray(got)], rtol, atol)


def _assert_same_length(what: str, expected: Sequence[Any], actual: Sequence[Any]) -> None:
    assert len(expected) == len(actual), f"{len(expected)} {what} were expected, {len(actual)} came"


def _kind(value: Any) -> str:
    return "nothing" if value is None else "a sequence" if isinstance(value, list | tuple) else "a tensor"
