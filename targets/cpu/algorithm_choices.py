"""Which records choose algorithms: by their name in the place of a template, and the version that counts."""

from __future__ import annotations

from . import chain_algorithms, conv2d_algorithms, matmul_algorithms

ALGORITHM_CHOICES = {
    module.CHOICE: module.VERSION for module in (chain_algorithms, conv2d_algorithms, matmul_algorithms)
}
"""The name of every kind of choice, and its version."""
