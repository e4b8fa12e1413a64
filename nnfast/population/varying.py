"""What differs from model to model beside the weights: numbers that are data of a run, so that one Program serves all.

A name stands for a setting of the optimizer ("learning_rate", "decay", "clip_norm", its own numbers), of the loss, or
of all layers that have it ("weight_l2" of every Dense layer, "dropout" for the rate of every Dropout layer).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError, NnfastError, OptionError, UnknownNameError
from nnfast.layers.dropout import Dropout
from nnfast.optimizers.base import GradientOptimizer
from nnfast.schedules import rates_of

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.program import Program

__all__ = ["Varying", "n_values"]

Array = np.ndarray[Any, Any]
Place = tuple[str, str]  # "optimizer", "loss" or the number of a layer; the attribute


def n_values(name: str, values: Any, n: int) -> tuple[Any, ...]:
    """The n values of one name. Raises DTypeError or OptionError."""
    if isinstance(values, str | bytes | Mapping | Set) or not hasattr(values, "__len__"):
        raise DTypeError(f"vary[{name!r}] is {values!r:.100}; expected a list of {n} values, one for each model")
    if getattr(values, "ndim", 1) != 1 or len(values) != n:
        shape = values.shape if hasattr(values, "shape") else (len(values),)
        raise OptionError(f"vary[{name!r}] has shape {tuple(shape)}; expected ({n},), one value for each model")
    return tuple(values.tolist() if isinstance(values, np.ndarray) else values)


class Varying:
    """The settings in which the models of a population differ from the pattern and from each other."""

    def __init__(self, pattern: Model, n: int) -> None:
        self._pattern, self._n = pattern, n
        self.values: dict[str, tuple[Any, ...]] = {}
        self._numbers: dict[str, Array] = {}  # the same as arrays, where they are numbers; no limit is infinite

    def use(self, values: Mapping[str, tuple[Any, ...]]) -> None:
        """From now on these, which were `checked`."""
        self.values = dict(values)
        self._numbers = {
            name: np.array([math.inf if v is None else v for v in column], np.float64)
            for name, column in self.values.items()
            if not any(map(callable, column))
        }

    # ---- settings ---------------------------------------------------------------------------------------------------

    def places(self) -> dict[str, list[Place]]:
        """Every name that can vary, and where it stands."""
        pattern, found = self._pattern, {}
        optimizer, loss = pattern.optimizer, pattern.loss
        if isinstance(optimizer, GradientOptimizer):
            for name in ("learning_rate", "decay", "clip_norm", *optimizer.scalars):
                found[name] = [("optimizer", name)]
        for name in loss.scalars if loss is not None else ():
            found.setdefault(name, []).append(("loss", name))
        for i, layer in enumerate(pattern.layers):
            for attribute in layer.scalars:
                name = "dropout" if isinstance(layer, Dropout) else attribute
                found.setdefault(name, []).append((str(i), attribute))
        return found

    def checked(self, name: str, values: Any) -> tuple[Any, ...]:
        """The values as the parts would keep them; raises where one is refused, or asks for another structure."""
        known = self.places()
        if not isinstance(name, str) or name not in known:
            raise UnknownNameError("name in vary", name, [*known, "rng"])
        taken = []
        for k, value in enumerate(n_values(name, values, self._n)):
            for place, attribute in known[name]:
                part = copy.copy(self._part(place))
                try:
                    setattr(part, attribute, value)
                except NnfastError as error:
                    raise type(error)(f"vary[{name!r}][{k}]: {error}") from None
                if place == "optimizer" and part.structure() != self._part(place).structure():
                    raise OptionError(
                        f"vary[{name!r}][{k}] = {value!r} makes another optimizer than {self._part(place)!r} of the "
                        "pattern: one with other arrays. Either all models have them or none"
                    )
                checked = getattr(part, attribute)
            taken.append(checked)
        return tuple(taken)

    def put(self, k: int, model_parts: Mapping[str, Any]) -> None:
        """Give the parts of model k, by place, its values."""
        for name, values in self.values.items():
            for place, attribute in self.places()[name]:
                setattr(model_parts[place], attribute, values[k])

    def _part(self, place: str) -> Any:
        pattern = self._pattern
        parts = {"optimizer": pattern.optimizer, "loss": pattern.loss}
        return parts[place] if place in parts else pattern.layers[int(place)]

    # ---- numbers of a run -------------------------------------------------------------------------------------------

    def scalars(self, program: Program) -> Array:
        """(n, scalars of the Program) float64."""
        base = self._pattern._programs.scalars(program)
        table = np.repeat(base[None], self._n, axis=0)
        places, names = self.places(), list(program.scalars)
        for name, numbers in self._numbers.items():
            for place, attribute in places[name]:
                if f"{place}.{attribute}" in names:
                    table[:, names.index(f"{place}.{attribute}")] = numbers
        return table

    def rates(self, models: Array, first: Array, count: int) -> Array:
        """(models, count): the learning rates of these models after `first`, `first` + 1, … steps each."""
        optimizer = self._pattern.optimizer
        assert isinstance(optimizer, GradientOptimizer)
        decays = self._each("decay", models)
        if callable(optimizer.learning_rate) or "learning_rate" in self.values.keys() - self._numbers.keys():
            column = self.values.get("learning_rate", (optimizer.learning_rate,) * self._n)
            known: dict[tuple[int, int], Array] = {}
            rows = []
            for k, start in zip(models.tolist(), first.tolist(), strict=True):
                schedule = column[k]
                key = id(schedule), start
                if key not in known:
                    made = rates_of(schedule, start, count) if callable(schedule) else np.full(count, schedule)
                    known[key] = np.asarray(made, np.float64)
                rows.append(known[key])
            rates = np.stack(rows)
        else:
            rates = np.repeat(self._each("learning_rate", models)[:, None], count, axis=1)
        if decays.any():
            steps = first[:, None] + np.arange(count, dtype=np.float64)
            rates = rates / (1.0 + decays[:, None] * steps)
        return rates

    def _each(self, name: str, models: Array) -> Array:
        """A number of the optimizer for each of these models."""
        if name in self._numbers:
            return self._numbers[name][models]
        return np.full(len(models), getattr(self._pattern.optimizer, name), np.float64)


def penalized(program: Program, scalars: Array) -> Array:
    """(n,) bool: whether any penalty of the Program has a strength other than 0."""
    strengths = program.strengths
    columns = [i for i, name in enumerate(program.scalars) if name in strengths]
    return np.asarray((scalars[:, columns] != 0).any(axis=1))
