"""Schedule choices as names and integers, the form in which the tuner and its records keep them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .base import Config


def to_knobs(config: Config) -> dict[str, int]:
    """The fields of a template's config, those of nested data classes included; empty for None."""
    knobs: dict[str, int] = {}
    for field in dataclasses.fields(config) if config is not None else ():
        value = getattr(config, field.name)
        knobs |= to_knobs(value) if dataclasses.is_dataclass(value) else {field.name: int(value)}
    return knobs


def from_knobs(example: Config, knobs: Mapping[str, int]) -> Config:
    """The config with the form of ``example`` and the values of ``knobs``.

    Raises:
        ValueError: ``knobs`` has not the same names.
    """
    if knobs.keys() != to_knobs(example).keys():
        raise ValueError(
            f"the choices {', '.join(knobs) or '(none)'} are not those of {type(example).__name__}"
        )
    return _filled(example, knobs)


def _filled(example: Config, knobs: Mapping[str, int]) -> Config:
    if example is None:
        return None
    values = {}
    for field in dataclasses.fields(example):
        old = getattr(example, field.name)
        values[field.name] = (
            _filled(old, knobs) if dataclasses.is_dataclass(old) else type(old)(knobs[field.name])
        )
    return dataclasses.replace(example, **values)
