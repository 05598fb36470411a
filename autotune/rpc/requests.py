"""What clients ask a server for, and what it answers, as messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..measurement import ArgumentSpec, BuiltKernel, Measurement, RunOptions, Status
from .channel import ConnectionLostError, Message

MEASURE = "measure"
MEASURED = "measured"
UNFIT = "unfit"


@dataclasses.dataclass(frozen=True)
class MeasureRequest:
    """Kernels that compute the same, to be timed against each other.

    Attributes:
        kernels: the first one's result is the reference for the others'.
        options: how to time them.
        cpu_features: those that the code needs, named as in ``/proc/cpuinfo``.
    """

    kernels: tuple[BuiltKernel, ...]
    options: RunOptions
    cpu_features: tuple[str, ...] = ()

    def message(self) -> Message:
        """The request as it travels: the libraries follow each other in the payload."""
        kernels = [
            {
                "arguments": [dataclasses.asdict(argument) for argument in kernel.arguments],
                "build_seconds": kernel.build_seconds,
                "length": len(kernel.library),
            }
            for kernel in self.kernels
        ]
        options = dataclasses.asdict(self.options)
        fields = {"kernels": kernels, "options": options, "cpu_features": self.cpu_features}
        return Message(MEASURE, fields, b"".join(kernel.library for kernel in self.kernels))

    @classmethod
    def of(cls, message: Message) -> MeasureRequest:
        """Raises ConnectionLostError: whoever sends anything else speaks another language."""
        try:
            options = dict(message.fields["options"])
            options["repetitions"] = tuple(options["repetitions"])
            kernels = _kernels(message.fields["kernels"], message.payload)
            return cls(kernels, RunOptions(**options), tuple(message.fields["cpu_features"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConnectionLostError(f"a request that makes no sense: {error}") from error


def _kernels(described: Sequence[dict[str, Any]], libraries: bytes) -> tuple[BuiltKernel, ...]:
    kernels, start = [], 0
    for kernel in described:
        arguments = tuple(
            ArgumentSpec(**fields | {"shape": tuple(fields["shape"]), **_matrices(fields)})
            for fields in kernel["arguments"]
        )
        end = start + kernel["length"]
        kernels.append(BuiltKernel(libraries[start:end], arguments, kernel["build_seconds"]))
        start = end
    return tuple(kernels)


def _matrices(fields: Mapping[str, Any]) -> dict[str, tuple[tuple[float, ...], ...]]:
    return {name: tuple(map(tuple, fields[name])) for name in ("windows", "quadrants")}


def measured(measurements: Sequence[Measurement]) -> Message:
    """The answer to a request that could be carried out."""
    return Message(
        MEASURED, {"measurements": [dataclasses.asdict(measurement) for measurement in measurements]}
    )


def unfit(reason: str) -> Message:
    """The answer to a request that this device cannot carry out, whatever the candidates."""
    return Message(UNFIT, {"reason": reason})


def measurements_of(answer: Message, device: str, count: int) -> list[Measurement]:
    """Reads the answer of ``device`` about ``count`` kernels. Raises ConnectionLostError if it is none."""
    try:
        rows = answer.fields["measurements"]
        measurements = [
            Measurement(
                **row
                | {
                    "status": Status(row["status"]),
                    "seconds": tuple(map(float, row["seconds"])),
                    "device": device,
                }
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ConnectionLostError(f"{device} gives an answer that makes no sense: {error}") from error
    if len(measurements) != count:
        raise ConnectionLostError(f"{device} answers about {len(measurements)} kernels of {count}")
    return measurements
