"""Every error that nnfast raises on purpose. Each is also the built-in error that fits: `except ValueError` works."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "BackendUnavailable",
    "CheckpointError",
    "DTypeError",
    "DataError",
    "NnfastError",
    "NonFiniteWarning",
    "OptionError",
    "OwnershipError",
    "RankError",
    "ShapeError",
    "StateError",
    "UnknownBackend",
    "UnknownNameError",
]


class NnfastError(Exception):
    """The base of all errors of this library."""


class ShapeError(NnfastError, ValueError):
    """An array has the wrong rank, width or number of rows."""


class DTypeError(NnfastError, TypeError):
    """An array or argument has a type that cannot be used here, or lives on another device."""


class DataError(NnfastError, ValueError):
    """The values are unusable: no rows, a label out of range, a target that is NaN."""


class OptionError(NnfastError, ValueError):
    """A setting is out of its range: a negative learning rate, a dropout rate of 1."""


class StateError(NnfastError, RuntimeError):
    """A call came out of order: `backward()` before `forward()`, training a model that has no loss."""


class OwnershipError(NnfastError, ValueError):
    """A layer or an optimizer was given to a second model."""


class CheckpointError(NnfastError, ValueError):
    """A file cannot be used: damaged, of another format or version, or of a model that does not fit."""


class RankError(NnfastError, RuntimeError):
    """A training on several ranks of an MPI job cannot go on: another rank failed, or they have come apart."""


class UnknownNameError(NnfastError, ValueError):
    """A name is not one of those known; the message gives the closest."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        import difflib  # on the error path only: it costs 2 ms to load

        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        super().__init__(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: `args` is the message, which `__init__` does not take."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class BackendUnavailable(NnfastError, RuntimeError):
    """A backend was asked for by name and cannot work here; the message says why and what mends it."""


class UnknownBackend(BackendUnavailable, UnknownNameError):
    """No backend of this name is registered."""

    def __init__(self, name: object, known: Iterable[str]) -> None:
        UnknownNameError.__init__(self, "backend", name, known)


class NonFiniteWarning(RuntimeWarning):
    """Training went on with a loss or gradient that is NaN or infinite."""
