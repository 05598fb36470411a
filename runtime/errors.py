"""What relaxc raises on purpose. Each message is one line: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class RelaxcError(Exception):
    """Base of all errors that a user can mend."""


class InvalidModelError(RelaxcError):
    """The model file is missing, corrupt, or contradicts its format's specification."""


class UnsupportedOperatorError(RelaxcError):
    """The model contains operators that cannot be converted; the message lists all of them."""


class ShapeError(RelaxcError):
    """An input's name, dtype or shape does not fit the model."""


class StaticInputRequired(RelaxcError):  # noqa: N818 - the public contract fixes this name
    """An input decides a rank or a type, so its value must be known when the model is compiled.

    Attributes:
        names: the inputs whose values must be passed as ``static_inputs``.
    """

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)


class TargetError(RelaxcError):
    """The target is unknown, or cannot do what was asked of it."""


class ArtifactError(RelaxcError):
    """A file is not an artifact, is damaged, or cannot run on this machine; or it cannot be written."""
