"""A model's parts as data, and parts made anew from data: by tables of what nnfast has, never by importing a name.

A part is kept as the name of its class, the arguments that would build it, and the settings that no argument gives.
Layers, losses, optimizers, metrics and schedules of others come back only as what the caller hands over as `custom`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from nnfast import initializers, layers, losses, metrics, optimizers, schedules
from nnfast.errors import BackendUnavailable, CheckpointError, DTypeError, NnfastError
from nnfast.initializers import Initializer
from nnfast.layers.base import Layer
from nnfast.losses import Loss
from nnfast.metrics import Metric
from nnfast.optimizers.base import GradientOptimizer, Optimizer
from nnfast.settings import Number
from nnfast.storage.values import Packer, Unpacker

__all__ = ["TABLES", "ConfigPacker", "ConfigUnpacker", "Custom", "describe", "setting_names"]

_ELSEWHERE = ("backend", "dtype", "rng")  # arguments that the model answers, not the part


def _classes(module: Any, base: type, *bases: type) -> dict[str, type]:
    found = {name: getattr(module, name) for name in module.__all__}
    return {n: c for n, c in found.items() if isinstance(c, type) and issubclass(c, base) and c not in (base, *bases)}


TABLES: dict[str, dict[str, type]] = {
    "layer": _classes(layers, Layer, layers.PythonLayer),
    "loss": _classes(losses, Loss, losses.PythonLoss),
    "optimizer": _classes(optimizers, Optimizer, GradientOptimizer),
    "schedule": _classes(schedules, object),
}
# Metrics with a number are made by functions; their classes have no public name.
_METRIC_MAKERS: dict[str, Callable[..., Metric]] = {
    "top_k": metrics.top_k,
    "regression_accuracy": metrics.regression_accuracy,
}
_MADE_METRICS = {type(make(1)): name for name, make in _METRIC_MAKERS.items()}


# ---- parts as data --------------------------------------------------------------------------------------------------


class ConfigPacker(Packer):
    """Knows initializers, schedules and functions beside plain values."""

    def special(self, value: Any, where: str) -> Any:
        if isinstance(value, Initializer):
            return {"kind": "initializer", "name": value.name, "options": self.pack(value.options, where)}
        if not callable(value) or isinstance(value, type):
            return super().special(value, where)
        name = type(value).__name__
        if TABLES["schedule"].get(name) is type(value):
            return {"kind": "schedule", "class": name, "config": self.pack(arguments(value, where), where)}
        named = getattr(value, "__name__", None)
        return {"kind": "custom", "name": named if isinstance(named, str) else name}


def describe(packer: Packer, kind: str, part: Any, where: str) -> dict[str, Any]:
    """A layer, loss, optimizer or metric as data."""
    if kind == "metric":
        return _metric(packer, part, where)
    name = type(part).__name__
    config = arguments(part, where)
    if not isinstance(config.get("initializer", ""), str | Initializer):
        del config["initializer"]  # a function of the user's: it has done its work
    settings = {n: getattr(part, n) for n in setting_names(part) if n not in config}
    said = {"class": name, "config": packer.pack(config, where), "settings": packer.pack(settings, where)}
    return said if TABLES[kind].get(name) is type(part) else {"custom": True} | said


def _metric(packer: Packer, metric: Metric, where: str) -> dict[str, Any]:
    named = metrics._NAMED.get(metric.name)
    if named is not None and type(named) is type(metric) and vars(named) == vars(metric):
        return {"class": metric.name, "config": {}}
    maker = _MADE_METRICS.get(type(metric))
    if maker is not None:
        names = list(inspect.signature(_METRIC_MAKERS[maker]).parameters)
        return {
            "class": maker,
            "name": metric.name,
            "config": packer.pack({n: getattr(metric, n) for n in names}, where),
        }
    said: dict[str, Any] = {"custom": True, "class": type(metric).__name__, "name": metric.name}
    try:
        return said | {"config": packer.pack(arguments(metric, where), where)}
    except NnfastError:
        return said  # only the object itself can take its place


def arguments(part: Any, where: str) -> dict[str, Any]:
    """The arguments that would build this part: its `config()`, or its attributes of the arguments' names."""
    own = getattr(part, "config", None)
    if callable(own):
        config = own()
        if not isinstance(config, dict):
            raise DTypeError(f"{where}: config() of {type(part).__name__} gave {config!r}; expected a dictionary")
        return config
    config = {}
    kind: Any = type(part)
    for name, argument in _arguments_of(kind).items():
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD) or name in _ELSEWHERE:
            continue
        value = getattr(part, name, argument)
        if value is not argument and not inspect.ismethod(value):
            config[name] = value
        elif argument.default is argument.empty:
            cls = type(part).__name__
            raise DTypeError(
                f"{where}: {cls} takes {name!r} and keeps no attribute of that name, so a file cannot build it again; "
                f"give {cls} a method config() that returns its arguments as a dictionary"
            )
    return config


def setting_names(part: Any) -> list[str]:
    """Attributes that may be changed at any time and shape what is computed."""
    kind: Any = type(part)
    rate = ["learning_rate"] if isinstance(part, GradientOptimizer) else []
    return list(dict.fromkeys([*rate, *part.scalars, *_checked_of(kind)]))


# A training that is written down often asks this of the same few classes over and over.


@lru_cache(256)
def _arguments_of(kind: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind).parameters


@lru_cache(256)
def _checked_of(kind: type) -> list[str]:
    """Its attributes that are checked when they are set."""
    return [name for cls in kind.__mro__ for name, value in vars(cls).items() if isinstance(value, Number)]


# ---- parts from data ------------------------------------------------------------------------------------------------


class Custom:
    """The classes, functions and metrics that the caller hands over, by name."""

    def __init__(self, given: Any, path: str) -> None:
        self._path = path
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            if isinstance(given, str | type) or not isinstance(given, Iterable):
                raise DTypeError(f"custom is {given!r}; expected a dictionary of names, or a list of classes")
            given = {_own_name(value): value for value in given}
        for name, value in given.items():
            if not isinstance(name, str) or not callable(value):
                raise DTypeError(f"custom[{name!r}] is {value!r}; expected a class, a function or a metric")
        self._given: dict[str, Any] = dict(given)

    def find(self, what: str, *names: str) -> Any:
        for name in names:
            if name in self._given:
                return self._given[name]
        name = names[0]
        given = name if name.isidentifier() else "…"
        raise CheckpointError(
            f"{self._path}: {what} {name!r:.80} is no part of nnfast, and a file brings no code along; "
            f"hand it over: nn.load(path, custom={{{name!r:.80}: {given:.80}}})"
        )


def _own_name(value: Any) -> str:
    if isinstance(value, Metric):
        return value.name
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


class ConfigUnpacker(Unpacker):
    """Builds parts. Whatever a constructor refuses becomes a CheckpointError."""

    def __init__(self, tensors: dict[str, np.ndarray[Any, Any]], path: str, custom: Custom) -> None:
        super().__init__(tensors, path)
        self._custom = custom

    def part(self, kind: str, said: Any, where: str) -> Any:
        """A layer, loss, optimizer or metric from what `describe` said of it."""
        try:
            made = self._metric(said) if kind == "metric" else self._part(kind, said)
        except (CheckpointError, BackendUnavailable):
            raise
        except (NnfastError, AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.path}: {where} cannot be built: {error!s:.300}") from error
        expected = {"layer": Layer, "loss": Loss, "optimizer": Optimizer, "metric": Metric}[kind]
        if not isinstance(made, expected):
            raise CheckpointError(f"{self.path}: {where} became a {type(made).__name__}, which is no {kind}")
        return made

    def _part(self, kind: str, said: Any) -> Any:
        name = self._text(said, "class")
        if said.get("custom") is True:
            cls = self._custom.find(kind, name)
        elif name in TABLES[kind]:
            cls = TABLES[kind][name]
        else:
            raise CheckpointError(f"{self.path}: this nnfast has no {kind} {name!r:.80}")
        config, settings = self.unpack(said["config"]), self.unpack(said["settings"])
        if any(n in config for n in _ELSEWHERE):
            raise CheckpointError(f"{self.path}: the {kind} {name!r:.80} must not choose its backend")
        made = cls(**config)
        known = setting_names(made)
        for setting, value in settings.items():
            if setting not in known:
                raise CheckpointError(f"{self.path}: {name!r:.80} has no setting {setting!r:.80}")
            if getattr(made, setting) != value:
                setattr(made, setting, value)
        return made

    def _metric(self, said: Any) -> Any:
        name = self._text(said, "class")
        if said.get("custom") is True:
            given = self._custom.find("metric", name, self._text(said, "name"))
            return given(**self.unpack(said["config"])) if isinstance(given, type) else given
        if name in _METRIC_MAKERS:
            return _METRIC_MAKERS[name](**self.unpack(said["config"]))
        if name not in metrics._NAMED:
            raise CheckpointError(f"{self.path}: this nnfast has no metric {name!r:.80}")
        return metrics._NAMED[name]

    def special(self, said: Any) -> Any:
        kind = said.get("kind") if isinstance(said, dict) else None
        if kind == "initializer":
            name, options = self._text(said, "name"), self.unpack(said["options"])
            if name not in initializers.__all__ or name in ("Initializer", "resolve"):
                raise CheckpointError(f"{self.path}: this nnfast has no initializer {name!r:.80}")
            return getattr(initializers, name)(**options)
        if kind == "schedule":
            name = self._text(said, "class")
            if name not in TABLES["schedule"]:
                raise CheckpointError(f"{self.path}: this nnfast has no schedule {name!r:.80}")
            return TABLES["schedule"][name](**self.unpack(said["config"]))
        if kind == "custom":
            return self._custom.find("the function", self._text(said, "name"))
        return super().special(said)

    def _text(self, said: Any, key: str) -> str:
        value = said.get(key) if isinstance(said, dict) else None
        if not isinstance(value, str):
            raise CheckpointError(f"{self.path}: {said!r:.80} has no {key}")
        return value
