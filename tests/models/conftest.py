"""The one comparison that all model tests use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from benchmarks.models.published import Feed
from benchmarks.onnxruntime_peer import OnnxRuntimeModel

if TYPE_CHECKING:
    from relaxc import Executable

RTOL, ATOL = 1e-3, 1e-4

Comparison = Callable[..., None]


def _assert_same(ours: Feed, theirs: Feed) -> None:
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype, name
        assert ours[name].shape == expected.shape, name
        assert np.isfinite(expected).all(), f"{name}: the reference itself is not finite"
        np.testing.assert_allclose(ours[name], expected, rtol=RTOL, atol=ATOL, err_msg=name)


@pytest.fixture
def agrees_with_onnxruntime(record_property: Callable[[str, object], None]) -> Comparison:
    """Checks that an executable gives ONNX Runtime's results on every feed.

    Feeds are calls in a row: ``state`` names the outputs that the next call takes as inputs, and
    ``first_state`` is what the first call takes. The executable's calls continue from its own outputs.
    """

    def check(
        name: str,
        model: onnx.ModelProto,
        executable: Executable,
        feeds: Iterable[Feed],
        *,
        state: dict[str, str] | None = None,
        first_state: Feed | None = None,
    ) -> None:
        reference = OnnxRuntimeModel(model)
        our_state = their_state = first_state or {}
        taken = {spec.name for spec in executable.inputs}
        for feed in feeds:
            theirs = reference.run({**feed, **their_state})
            our_feed = {**feed, **our_state}
            ours = executable.run({key: value for key, value in our_feed.items() if key in taken})
            _assert_same(ours, theirs)
            our_state = {target: ours[source] for source, target in (state or {}).items()}
            their_state = {target: theirs[source] for source, target in (state or {}).items()}
        record_property("model checked against ONNX Runtime", name)

    return check
