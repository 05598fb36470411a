"""``relaxc demo``: a real model from download to result."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from ...runtime.errors import RelaxcError
from ...runtime.executable import Executable
from ...runtime.processor import default_threads
from ..ppocr import CtcDecoder, recogniser_input, render_line
from ..published_models import fetch
from .console import progress

_MODEL = "ppocr_v4_rec"
_REPEATS = 30


def demo(
    text: Annotated[str, typer.Option(help="The line to render and read.")] = "From ONNX to a shared library",
    output: Annotated[Path, typer.Option(help="The folder for the compiled model.")] = Path(),
) -> None:
    """Compile a real text recogniser, read a rendered line of text with it, and time it.

    Example: relaxc demo --text "Hello, world!"
    """
    pixels = recogniser_input(render_line(text))
    _make_folder(output)
    artifact = output / f"{_MODEL}.so"
    with progress() as say:
        say(f"fetching {_MODEL}")
        model = fetch(_MODEL)
        say(f"compiling it to {artifact}")
        executable, seconds = _compile(model, pixels.shape, artifact)
    (probabilities,) = executable.run({executable.inputs[0].name: pixels}).values()
    read = CtcDecoder.from_model(model)(probabilities).strip()
    print(f"text rendered  {text}")
    print(f"text read      {read}")
    print(f"artifact       {artifact}, {artifact.stat().st_size / 1e6:.1f} MB, compiled in {seconds:.1f} s")
    _print_latencies(executable, model, pixels)
    if read != text.strip():
        raise RelaxcError("the text was not read as it was rendered: try Latin letters, digits, punctuation")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RelaxcError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error


def _compile(model: Path, shape: tuple[int, ...], artifact: Path) -> tuple[Executable, float]:
    """Compile, save, and load what was saved: what runs is what a user would carry away."""
    from ...runtime import load
    from ..driver import compile

    started = time.perf_counter()
    compile(model, shapes={"x": shape}).save(artifact)
    seconds = time.perf_counter() - started
    return load(artifact), seconds


def _print_latencies(executable: Executable, model: Path, pixels: NDArray[np.float32]) -> None:
    feed = {executable.inputs[0].name: pixels}
    runs: dict[str, Callable[[], object]] = {"relaxc": lambda: executable.run(feed)}
    if (peer := _onnxruntime_run(model, feed)) is not None:
        runs["ONNX Runtime"] = peer
    for name, milliseconds in _median_latencies(runs).items():
        print(f"latency        {milliseconds:.2f} ms  {name}, median of {_REPEATS}")


def _onnxruntime_run(model: Path, feed: dict[str, NDArray[np.float32]]) -> Callable[[], object] | None:
    """A call of ONNX Runtime with as many threads as relaxc has; None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = default_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def _median_latencies(runs: dict[str, Callable[[], object]], rounds: int = 3) -> dict[str, float]:
    """Milliseconds a call, measured in turns so that a disturbance of the machine meets everyone.

    A pause before each turn lets the threads of the one before go to sleep: they spin while they wait.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(0.2)
            run()
            for _ in range(_REPEATS // rounds):
                started = time.perf_counter()
                run()
                times[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}
