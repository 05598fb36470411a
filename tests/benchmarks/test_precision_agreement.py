"""The measures of agreement between precisions, on results made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.precision_agreement import compare


def test_equal_results_agree() -> None:
    expected = np.random.default_rng(0).standard_normal((2, 5, 8))
    for model in ("resnet18", "bert_base", "nudenet_320n", "ppocr_v4_det", "ppocr_v4_rec"):
        found = compare(model, "bf16", 2, expected, expected.copy())
        assert found.cosine == pytest.approx(1)
        assert (found.worst, found.agreed) == (0, 1)


def test_classes_that_change_are_counted() -> None:
    expected = np.eye(4)
    actual = expected.copy()
    actual[1] = [1.5, 1, 0, 0]
    found = compare("resnet18", "bf16", 4, expected, actual)
    assert found.agreed == 0.75
    assert found.worst == 1.5
    assert found.cosine == pytest.approx(4 / np.sqrt(4 * (3 + 1.5**2 + 1)))


def test_a_token_disagrees_where_another_is_nearer() -> None:
    expected = np.eye(3)[None]
    actual = expected.copy()
    actual[0, 2] = [0, 1, 0.5]
    assert compare("minilm_l6", "bf16", 1, expected, actual).agreed == pytest.approx(2 / 3)


def test_corners_of_boxes_are_no_classes() -> None:
    expected = np.zeros((1, 6, 2))
    expected[0, 4] = 1
    actual = expected.copy()
    actual[0, 0] = 9
    assert compare("nudenet_320n", "bf16", 1, expected, actual).agreed == 1
