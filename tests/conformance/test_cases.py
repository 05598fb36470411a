"""The cases of onnx's backend suite and how results are judged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

from benchmarks.conformance.__main__ import compare_with_record
from benchmarks.conformance.cases import SUITES, Case, load_cases
from benchmarks.conformance.comparison import assert_as_expected
from benchmarks.conformance.implementations import run_with_onnxruntime, run_with_relaxc
from benchmarks.conformance.operators_page import operators_page
from benchmarks.conformance.records import Record, losses
from benchmarks.conformance.static_rule import needless_static
from benchmarks.outcome import Outcome, wrong_result

ONE = np.ones(3, np.float32)


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    """All cases by name."""
    return {case.name: case for case in load_cases()}


def test_every_case_of_the_installed_onnx_is_there(cases: dict[str, Case]) -> None:
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    counts = Counter(case.suite for case in cases.values())
    assert tuple(counts) == SUITES
    assert counts["node"] > 1500
    for suite in SUITES[1:]:
        folders = {case.folder for case in cases.values() if case.suite == suite}
        assert folders == {model.parent for model in (data / suite).glob("*/model.onnx")}


def test_inputs_and_outputs_are_read_in_all_forms(cases: dict[str, Case]) -> None:
    relu = next(cases["test_single_relu_model"].data_sets())
    np.testing.assert_array_equal(relu.outputs[0], np.maximum(relu.inputs[0], 0))
    sequence = next(cases["test_sequence_insert_at_back"].data_sets())
    assert [type(value) for value in sequence.inputs] == [list, np.ndarray]
    int4 = next(cases["test_cast_FLOAT_to_INT4"].data_sets())
    assert int4.outputs[0].dtype == ml_dtypes.int4


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ([ONE], [ONE, ONE]),
        ([ONE], [ONE.astype(np.float64)]),
        ([ONE], [ONE.reshape(1, 3)]),
        ([ONE], [ONE * 1.01]),
        ([ONE], [None]),
        ([None], [ONE]),
        ([[ONE, ONE]], [[ONE]]),
        ([[ONE]], [ONE]),
        ([ONE], [[ONE]]),
        ([[ONE, ONE]], [[ONE, ONE * 2]]),
    ],
)
def test_what_is_not_as_expected_is_refused(expected: list[object], actual: list[object]) -> None:
    with pytest.raises(AssertionError):
        assert_as_expected(expected, actual, 1e-3, 1e-7)


def test_what_is_as_expected_is_taken() -> None:
    values = [
        ONE,
        [ONE, ONE],
        None,
        np.float32(1),
        np.array([np.nan, np.inf]),
        np.ones(2, ml_dtypes.bfloat16),
    ]
    assert_as_expected(values, values, 1e-3, 1e-7)


def test_a_wrong_result_is_told_in_one_line() -> None:
    with pytest.raises(AssertionError) as raised:
        assert_as_expected([ONE], [(ONE * [1, 1, 3]).astype(np.float32)], 1e-3, 1e-7)
    assert wrong_result(raised.value).reason == "1 of 3 elements differ, by up to 2."


@pytest.mark.parametrize(
    "name", ["test_relu", "test_layer_normalization_2d_axis0", "test_expand_shape_model1"]
)
def test_both_implementations_pass(cases: dict[str, Case], name: str) -> None:
    for run in (run_with_relaxc, run_with_onnxruntime):
        outcome = run(cases[name])
        assert (outcome.passed, outcome.reason) == (True, "")


@pytest.mark.parametrize(
    "name",
    [
        "test_cast_INT4_to_FLOAT",
        "test_cast_FLOAT_to_UINT2",
        "test_cast_FLOAT_to_BFLOAT16",
        "test_cast_FLOAT8E5M2_to_FLOAT",
    ],
)
def test_the_peer_is_given_element_types_that_its_interface_does_not_take(
    cases: dict[str, Case], name: str
) -> None:
    assert run_with_onnxruntime(cases[name]).passed


def test_inputs_that_decide_a_rank_are_passed_as_static_ones(cases: dict[str, Case]) -> None:
    outcome = run_with_relaxc(cases["test_unsqueeze_unsorted_axes"])
    assert (outcome.passed, outcome.static_inputs) == (True, ("axes",))


def test_what_cannot_be_compiled_fails_with_the_class_of_its_error(cases: dict[str, Case]) -> None:
    outcome = run_with_relaxc(cases["test_strnorm_model_monday_empty_output"])
    assert (outcome.passed, outcome.cause) == (False, "UnsupportedOperatorError")


@pytest.mark.parametrize(
    ("name", "needless"),
    [
        ("test_unsqueeze_unsorted_axes", False),
        ("test_cumsum_1d", True),
        ("test_resize_upsample_scales_linear", True),
    ],
)
def test_static_inputs_are_needless_where_the_rank_is_known(
    cases: dict[str, Case], name: str, needless: bool
) -> None:
    assert needless_static(cases[name], Outcome(True, ("some",))) is needless
    assert not needless_static(cases[name], Outcome(True))


class TestRecords:
    def test_losses_are_found(self, cases: dict[str, Case]) -> None:
        some = [cases["test_relu"], cases["test_abs"], cases["test_sign_model"]]
        before = [Outcome(True), Outcome(False, cause="crash"), Outcome(True, ("axes",))]
        record = Record.of(some, before, {"onnx": "1"})
        assert (record.passed("node"), record.passed("simple")) == (1, 1)
        assert (record.static["node"], record.static["simple"]) == ([], ["test_sign_model"])
        assert (record.failed["node"], record.failed["simple"]) == ({"test_abs": "crash"}, {})
        now = [Outcome(False, cause="hang"), Outcome(True), Outcome(True)]
        assert list(losses(record, some, now)) == ["test_relu"]

    def test_the_record_speaks_of_all_cases(self, cases: dict[str, Case]) -> None:
        record = Record.read("relaxc")
        assert record is not None
        if record.versions["onnx"] != onnx.__version__:
            pytest.skip("the record was made with another version of onnx")
        assert record.cases == Counter(case.suite for case in cases.values())


def test_the_page_counts_expansions_with_their_operator(cases: dict[str, Case]) -> None:
    some = [
        cases[name] for name in ("test_gelu_default_1", "test_gelu_default_1_expanded", "test_sign_model")
    ]
    outcomes = [Outcome(True, ("x",)), Outcome(False, cause="wrong result", reason="a|b"), Outcome(True)]
    record = Record.of(some, outcomes, {"onnx": "1"})
    page = operators_page(some, outcomes, record, Record.of(some, outcomes, {"onnx": "1", "peer": "2"}))
    assert "| Gelu | 20 | float32 | 1/2 | 1 | 1 |\n" in page
    assert "| Suite | Cases | Passed | Static | Needless | peer 2 |\n" in page
    assert "| node | 2 | 1 | 1 | 1 | 1 |\n" in page
    assert "| test_gelu_default_1_expanded | node | wrong result | a\\|b |\n" in page


class TestVerdict:
    """A run against the record."""

    def test_fewer_passes_are_an_error_and_named(
        self, cases: dict[str, Case], capsys: pytest.CaptureFixture[str]
    ) -> None:
        some, record = self._recorded(cases, [Outcome(True), Outcome(False)])
        now = [Outcome(False, cause="hang", reason="not done"), Outcome(False)]
        assert compare_with_record(record, Record.of(some, now, record.versions), some, now) == 1
        printed = capsys.readouterr()
        assert "passed before: test_relu: hang: not done" in printed.out
        assert "node: 0 cases pass, 1 did" in printed.err

    def test_as_many_passes_are_none(self, cases: dict[str, Case]) -> None:
        some, record = self._recorded(cases, [Outcome(True), Outcome(False)])
        now = [Outcome(False), Outcome(True)]
        assert compare_with_record(record, Record.of(some, now, record.versions), some, now) == 0

    def test_other_versions_are_not_compared(
        self, cases: dict[str, Case], capsys: pytest.CaptureFixture[str]
    ) -> None:
        some, record = self._recorded(cases, [Outcome(True), Outcome(True)])
        now = [Outcome(False), Outcome(False)]
        assert compare_with_record(record, Record.of(some, now, {"onnx": "2"}), some, now) == 0
        assert "there is no record for this version of onnx" in capsys.readouterr().err

    @staticmethod
    def _recorded(cases: dict[str, Case], outcomes: list[Outcome]) -> tuple[list[Case], Record]:
        some = [cases["test_relu"], cases["test_abs"]]
        return some, Record.of(some, outcomes, {"onnx": "1"})
