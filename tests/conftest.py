"""What every test may use, and the count of models checked that ends each run."""

from __future__ import annotations

import pytest

MODEL_CHECKED = "model checked against ONNX Runtime"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many models agree with ONNX Runtime; workers report through the properties of tests."""
    passed = terminalreporter.getreports("passed")
    models = {value for report in passed for key, value in report.user_properties if key == MODEL_CHECKED}
    if models:
        terminalreporter.section("models checked against ONNX Runtime")
        terminalreporter.write_line(f"{len(models)} models agree: {', '.join(sorted(map(str, models)))}")
