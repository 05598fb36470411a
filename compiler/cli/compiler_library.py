"""Commands that compile need more than the runtime; on a device they say so."""

from __future__ import annotations

from ...runtime.errors import RelaxcError


def require_compiler() -> None:
    """Imports TVM. Raises RelaxcError where its compiler is not installed, or not whole."""
    try:
        import tvm  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise RelaxcError(
            f"this needs TVM's compiler, which cannot be imported ({error}); install apache-tvm"
        ) from error
