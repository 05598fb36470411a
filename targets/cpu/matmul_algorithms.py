"""The algorithms that a product with constant weights can go by, as choices for the tuner.

No cost model takes Strassen's: it gains a few percent, needs 1.75 times the memory for weights, and its
errors are bounded by the norms of the matrices, not element by element.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...passes.lower_strassen_matmul import MatmulExtents
from .kernel_identity import KernelIdentity, identify_operator
from .templates.matmul import MatmulTemplate
from .templates.strassen_matmul import StrassenMatmulTemplate

CHOICE = "matmul_algorithm"
"""What records call a choice of this kind, in the place of a template."""
VERSION = 10 * MatmulTemplate.version + StrassenMatmulTemplate.version
"""Changes with the templates whose kernels were compared."""
DIRECT, STRASSEN = {"strassen": 0}, {"strassen": 1}
_LEAST_ROWS = 64
_LEAST_INNER = 256
_LEAST_COLUMNS = 256
_ROWS_OF_A_TILE = 4


def algorithms(extents: MatmulExtents) -> list[Mapping[str, int]]:
    """What is worth measuring, the direct product first.

    Small products, and those that tiles of a few rows do not fill, lose more than they save.
    """
    large = (
        extents.rows >= _LEAST_ROWS and extents.inner >= _LEAST_INNER and extents.columns >= _LEAST_COLUMNS
    )
    return [DIRECT, STRASSEN] if large and extents.rows % (2 * _ROWS_OF_A_TILE) == 0 else [DIRECT]


def by_strassen(knobs: Mapping[str, int]) -> bool:
    """Whether ``knobs`` choose Strassen's algorithm.

    Raises:
        ValueError: no algorithm is called so.
    """
    if knobs not in (DIRECT, STRASSEN):
        raise ValueError(f"{dict(knobs)} is no algorithm of products")
    return knobs == STRASSEN


def identify_choice(extents: MatmulExtents) -> KernelIdentity:
    """The key under which records keep the choice."""
    return identify_operator(CHOICE, VERSION, extents)
