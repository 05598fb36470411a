"""Concatenation of convolved maps along channels, where parts end within blocks, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relaxc.passes.compute.channel_concat import MOST_UNITS, lanes_of_unit
from tests.targets.kernel_workloads import Workload, check_random, normal, some_symbolic

# How many channels the parts have: with 16 lanes to a block, each draw has units of 4 or of 8.
CHANNELS = ((24, 24, 24, 24), (8, 16), (40, 8, 24), (4, 12, 20), (36, 16), (16, 4, 16))


def concatenate(generator: np.random.Generator) -> Workload:
    """Pointwise convolutions with as many filters as each part has channels, some maps enlarged behind them.

    Maxima of rows stand at the end, so that the result is wanted in blocks.
    """
    channels = CHANNELS[int(generator.integers(len(CHANNELS)))]
    shape = [int(extent) for extent in (generator.integers(1, 3), 3, *generator.integers(2, 40, 2))]
    x = normal(generator, *shape)
    weights = [normal(generator, c, 3, 1, 1) for c in channels]
    doubled = [bool(generator.random() < 0.4) for _ in channels]
    negated = bool(generator.random() < 0.5)
    symbolic = some_symbolic(generator, shape, (2, 3)) if not any(doubled) else list(shape)

    def part(data: relax.Expr, weight: np.ndarray, twice: bool) -> relax.Expr:
        result = relax.op.nn.conv2d(data, relax.const(weight))
        return relax.op.repeat(result, 2, 2) if twice else result

    def operator(data: relax.Expr) -> relax.Expr:
        twice = relax.op.repeat(data, 2, 2) if any(doubled) else data
        parts = [part(data if d else twice, w, d) for w, d in zip(weights, doubled, strict=True)]
        joined = relax.op.concat(parts, axis=1)
        joined = relax.op.negative(joined) if negated else joined
        return relax.op.nn.max_pool2d(joined, [1, 2])

    rows = x.astype(np.float64).repeat(2, axis=2) if any(doubled) else x.astype(np.float64)
    expected = np.concatenate([np.einsum("nchw,oc->nohw", rows, w[:, :, 0, 0]) for w in weights], axis=1)
    expected = -expected if negated else expected
    return Workload(
        f"concatenation of {channels} channels, doubled {doubled}, of {symbolic} = {shape}",
        operator,
        [x],
        np.maximum(expected[..., 1:], expected[..., :-1]),
        frozenset({"conv2d", "channel_concat", "reduction"}),
        [symbolic],
    )


@pytest.mark.workloads_a_seed(16)
def test_parts_that_end_within_blocks(seed: int) -> None:
    check_random(concatenate, seed, count=16)


def test_units_are_as_long_as_all_parts_allow() -> None:
    assert lanes_of_unit([24, 24], 16) == 8
    assert lanes_of_unit([32, 16], 16) == 16
    assert lanes_of_unit([24, 36], 16) == 4


def test_short_units_and_too_many_of_them_do_not_pay() -> None:
    assert lanes_of_unit([24, 30], 16) is None
    assert lanes_of_unit([24, 8 * MOST_UNITS], 16) is None
