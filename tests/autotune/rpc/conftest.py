"""A secret, and kernels that are not real: here it matters how they travel, not how fast they are."""

from __future__ import annotations

import pytest

from relaxc.autotune.rpc.identity import Identity, identity_of

SECRET = b"known to the tests and nobody else, it is hoped"


@pytest.fixture(scope="session")
def identity() -> Identity:
    """Of those who know the secret."""
    return identity_of(SECRET)


@pytest.fixture(scope="session")
def stranger() -> Identity:
    """Of somebody who knows everything but the secret."""
    return identity_of(SECRET.swapcase())
