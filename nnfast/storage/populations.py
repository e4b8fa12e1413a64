"""Populations in files: the file of a model in which every array has an axis of models before its own.

    0.weights, optimizer.m.0.weights, …   (models, …) each
    population.N                          arrays of what only a population has: keys, counters, what varies, history

The metadata's "model" describes the pattern, "population" (JSON) the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast import checkpoint
from nnfast.errors import CheckpointError, NnfastError
from nnfast.population.history import PopulationHistory
from nnfast.registry import get_backend
from nnfast.storage.configuration import ConfigPacker, ConfigUnpacker, Custom
from nnfast.storage.file_format import write
from nnfast.storage.files import as_path, replacing
from nnfast.storage.records import MOST, Record
from nnfast.storage.restoring import Restoring, check_blocks
from nnfast.storage.stored import POPULATION, Stored, content, read_stored, to_json

if TYPE_CHECKING:
    from nnfast.population.population import Population

__all__ = ["load", "restore", "save"]

Array = np.ndarray[Any, Any]
MOST_MODELS = 10_000_000


def save(population: Population, path: Any, run: Any) -> None:
    """See `Population.save`."""
    name, pattern, members = as_path(path), population.pattern, population._members
    with pattern._programs.exclusive(changes=False):
        tensors, metadata = content(pattern, run)
        tensors = {n: a for n, a in tensors.items() if n.startswith(("config.", "run.")) or n == "optimizer.state"}
        tensors |= _blocks(population, members.buffers.parameters)
        for slot, rows in members.buffers.slots.items():
            tensors |= {f"optimizer.{slot}.{n}": a for n, a in _blocks(population, rows).items()}
        packer = ConfigPacker("population")
        metadata |= {"format": POPULATION, "population": to_json(packer.pack(_described(population), "population"))}
        with replacing(name) as file:
            write(file, tensors | packer.tensors, metadata)


def _described(population: Population) -> dict[str, Any]:
    members = population._members
    seeds = [s if isinstance(s, int | np.integer) else None for s in population._seeds]  # a generator has moved on
    return {
        "models": members.n,
        "keys": members.keys,
        "epochs": members.epochs,
        "steps": members.steps,
        "seeds": _column(seeds),
        "values": {name: _column(list(values)) for name, values in population._varying.values.items()},
        "history": population.history.record(),
    }


def _column(values: list[Any]) -> Any:
    """A list as it can be kept shortest: numbers of one kind as an array."""
    for kind in (int, float):
        if all(type(v) is kind for v in values) and (kind is float or all(0 <= v < 2**63 for v in values)):
            return np.array(values)
    return values


def _blocks(population: Population, rows: Any) -> dict[str, Array]:
    """The arrays that lie in the rows, by name, (models, …) each."""
    host = np.asarray(population.backend.to_numpy(rows))
    return {
        b.name: np.ascontiguousarray(host[:, b.offset : b.offset + b.size]).reshape(len(host), *b.shape)
        for b in population.pattern._layout.blocks
    }


def load(path: Any, backend: Any, custom: Any) -> Population:
    """See `Population.load`."""
    from nnfast.population.population import Population

    name = as_path(path)
    chosen, given = get_backend(backend), Custom(custom, name)
    stored = read_stored(name, POPULATION)
    said = _said(stored, given)
    pattern = checkpoint.built(_first(stored, said["models"]), chosen, None, given)
    made: Population = Population.__new__(Population)
    made._begin(pattern, said["models"])
    _fill(made, stored, said, _values(made, said, {}, name))
    return made


def restore(population: Population, path: Any, check: Callable[[Any, PopulationHistory], None]) -> Any:
    """Make a population what a file says; gives back the `run`.

    `check(run, history)` may refuse, by raising, before anything changes.
    """
    name = as_path(path)
    stored = read_stored(name, POPULATION)
    own = {k: v for k, v in population._varying.values.items() if any(map(callable, v))}
    functions = {getattr(f, "__name__", type(f).__name__): f for v in own.values() for f in v if callable(f)}
    said = _said(stored, Custom(functions, name))
    if said["models"] != population.n:
        raise CheckpointError(f"{name} holds {said['models']} models; this population has {population.n}")
    before, now = sorted(said["values"]), sorted(population._varying.values)
    if before != now:
        raise CheckpointError(f"{name}: what varies is {before} in the file and {now} in the population")
    check(stored.run, said["history"])
    with population.pattern._programs.exclusive():
        restoring = Restoring(population.pattern, _first(stored, population.n))
        values = _values(population, said, own, name)
        restoring.apply()
        _fill(population, stored, said, values)
    return stored.run


# ---- checks ---------------------------------------------------------------------------------------------------------


def _said(stored: Stored, custom: Custom) -> dict[str, Any]:
    """What the file says of the population, checked as far as that needs no model."""
    assert stored.population is not None
    path = stored.path
    said = ConfigUnpacker(stored.population[1], path, custom).unpack(stored.population[0])
    if not isinstance(said, dict) or type(said.get("models")) is not int or not 0 < said["models"] < MOST_MODELS:
        raise CheckpointError(f"{path}: how many models there are is missing, or is no number of them")
    n = said["models"]
    for name, kind in (("keys", np.uint64), ("epochs", np.int64), ("steps", np.int64)):
        a = said.get(name)
        if (
            not isinstance(a, np.ndarray)
            or a.shape != (n,)
            or a.dtype != kind
            or (kind is np.int64 and not _all_between(a))
        ):
            raise CheckpointError(f"{path}: its {name} are no {n} numbers of {np.dtype(kind)}")
    if not isinstance(said.get("values"), dict) or not _are_seeds(said.get("seeds"), n):
        raise CheckpointError(f"{path}: its seeds, or what varies, are missing")
    return said | {"history": PopulationHistory.of(Record(said, path).part("history"), n)}


def _all_between(counts: Array) -> bool:
    return bool((counts >= 0).all() and (counts <= MOST).all())


def _are_seeds(values: Any, n: int) -> bool:
    if isinstance(values, np.ndarray):
        return values.shape == (n,) and bool(values.dtype == np.int64)
    return isinstance(values, list) and len(values) == n and all(v is None or type(v) is int for v in values)


def _first(stored: Stored, n: int) -> Stored:
    """The file's first model, as if it stood alone; refuses arrays that hold another number of models."""
    groups = {"": stored.parameters, **{f"optimizer.{slot}.": blocks for slot, blocks in stored.slots.items()}}
    for prefix, blocks in groups.items():
        for name, a in blocks.items():
            if a.ndim == 0 or len(a) != n:
                raise CheckpointError(f"{stored.path}: {prefix}{name} has shape {a.shape}, for {n} models")

    def first(blocks: Mapping[str, Array]) -> dict[str, Array]:
        return {name: a[0] for name, a in blocks.items()}

    slots = {slot: first(blocks) for slot, blocks in stored.slots.items()}
    return stored._replace(parameters=first(stored.parameters), slots=slots)


def _values(population: Population, said: dict[str, Any], own: Mapping[str, Any], path: str) -> dict[str, Any]:
    """What varies, checked; functions of the user's, which a file cannot hold, are those of the population."""
    try:
        return {
            name: own[name] if name in own else population._varying.checked(name, values)
            for name, values in said["values"].items()
        }
    except NnfastError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _fill(population: Population, stored: Stored, said: dict[str, Any], values: dict[str, Any]) -> None:
    members, pattern = population._members, population.pattern
    first = _first(stored, members.n)
    check_blocks(first, {b.name: b.shape for b in pattern._layout.blocks}, pattern.dtype.name)
    asarray = pattern.backend.asarray
    members.buffers.parameters[...] = asarray(_rows(population, stored.parameters))
    for slot in members.buffers.slots.keys() - stored.slots.keys():
        members.buffers.slots[slot][...] = 0
    for slot, blocks in stored.slots.items():
        if slot not in members.buffers.slots:
            members.buffers.slots[slot] = pattern.backend.zeros((members.n, pattern._layout.size), pattern.dtype)
        members.buffers.slots[slot][...] = asarray(_rows(population, blocks))
    members.keys, members.epochs, members.steps = (np.array(said[name]) for name in ("keys", "epochs", "steps"))
    population._varying.use(values)
    population._seeds = tuple(said["seeds"].tolist() if isinstance(said["seeds"], np.ndarray) else said["seeds"])
    population.history = said["history"]


def _rows(population: Population, blocks: Mapping[str, Array]) -> Array:
    """Rows of flat arrays from the arrays of all models; padding is zero."""
    layout = population.pattern._layout
    rows = np.zeros((population.n, layout.size), population.pattern.dtype)
    for b in layout.blocks:
        rows[:, b.offset : b.offset + b.size] = blocks[b.name].reshape(population.n, -1)
    return rows
