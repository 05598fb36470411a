"""The implementations under test. Each runs one case and says what became of it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx

from ..outcome import Outcome, failure, wrong_result
from .cases import Case, DataSet
from .comparison import assert_as_expected

if TYPE_CHECKING:
    import relaxc

Implementation = Callable[[Case], Outcome]


def run_with_relaxc(case: Case) -> Outcome:
    """Through the public interface: ``relaxc.compile`` and ``Executable.run``.

    An input that ``StaticInputRequired`` names is passed as a static input, and noted.
    """
    return _judged(case, _relaxc_outputs)


def run_with_onnxruntime(case: Case) -> Outcome:
    """Through ONNX Runtime's Python interface, on the CPU."""
    return _judged(case, _onnxruntime_outputs)


IMPLEMENTATIONS: dict[str, Implementation] = {
    "relaxc": run_with_relaxc,
    "onnxruntime": run_with_onnxruntime,
}

Outputs = tuple[Sequence[Any], tuple[str, ...]]


def _judged(case: Case, run: Callable[[onnx.ModelProto, DataSet], Outputs]) -> Outcome:
    """The outcome of a case, given what computes a data set's outputs and names its static inputs."""
    started = time.monotonic()
    outcome = _judged_untimed(case, run)
    return replace(outcome, seconds=time.monotonic() - started)


def _judged_untimed(case: Case, run: Callable[[onnx.ModelProto, DataSet], Outputs]) -> Outcome:
    static: tuple[str, ...] = ()
    try:
        for data in case.data_sets():
            outputs, static = run(case.model, data)
            assert_as_expected(data.outputs, outputs, case.rtol, case.atol)
    except AssertionError as error:
        # Assertions fail inside of compilers, too; only those of the comparison speak of results.
        return wrong_result(error) if _of_comparison(error) else failure("internal error", repr(error))
    except Exception as error:
        return failure(_cause(error), str(error))
    return Outcome(True, static)


def _of_comparison(error: AssertionError) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is assert_as_expected.__code__:
            return True
        trace = trace.tb_next
    return False


def _cause(error: Exception) -> str:
    expected = any(cls.__module__.startswith(("relaxc.", "onnxruntime.")) for cls in type(error).__mro__)
    return type(error).__name__ if expected else f"internal error: {type(error).__name__}"


def _feed(model: onnx.ModelProto, data: DataSet) -> dict[str, Any]:
    """The values by name. Scalars of NumPy are arrays without axes to whoever takes arrays."""
    names = (value.name for value in model.graph.input)
    values = (np.asarray(value) if isinstance(value, np.generic) else value for value in data.inputs)
    return dict(zip(names, values, strict=False))


def _relaxc_outputs(model: onnx.ModelProto, data: DataSet) -> Outputs:
    feed = _feed(model, data)
    executable, static = _compiled(model, feed)
    results = executable.run({spec.name: feed[spec.name] for spec in executable.inputs})
    return list(results.values()), static


def _compiled(model: onnx.ModelProto, feed: dict[str, Any]) -> tuple[relaxc.Executable, tuple[str, ...]]:
    import relaxc

    static: dict[str, Any] = {}
    while True:
        try:
            return relaxc.compile(model, static_inputs=static), tuple(static)
        except relaxc.errors.StaticInputRequired as error:
            named = {name: feed[name] for name in error.names if name in feed}
            if not named.keys() - static.keys():
                raise
            static |= named


def _onnxruntime_outputs(model: onnx.ModelProto, data: DataSet) -> Outputs:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = _feed(model, data)
    if not any(_is_extended(value) for value in [*feed.values(), *data.outputs]):
        return session.run(None, feed), ()
    values = {name: _ort_value(value) for name, value in feed.items()}
    outputs = session.run_with_ort_values(None, values)
    return [_from_ort(value) for value in outputs], ()


def _is_extended(value: Any) -> bool:
    """Whether NumPy knows the element type by ml_dtypes only."""
    return isinstance(value, np.ndarray) and value.dtype.type.__module__ == ml_dtypes.__name__


def _ort_value(array: np.ndarray[Any, Any]) -> Any:
    """An array of any element type as ONNX Runtime's own tensor, packed where ONNX packs."""
    import onnxruntime

    if not _is_extended(array):
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    packed = onnx.numpy_helper.from_array(array)
    value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(array.shape), packed.data_type)
    ctypes.memmove(value.data_ptr(), packed.raw_data, len(packed.raw_data))
    return value


def _from_ort(value: Any) -> Any:
    """A result as an array. ``OrtValue.numpy`` refuses some element types and gives others as bytes."""
    if not value.is_tensor():
        return value.numpy() if value.has_value() else None
    packed = onnx.TensorProto(dims=value.shape(), data_type=value.element_type())
    if onnx.helper.tensor_dtype_to_np_dtype(packed.data_type).type.__module__ != ml_dtypes.__name__:
        return value.numpy()
    packed.raw_data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return onnx.numpy_helper.to_array(packed)
