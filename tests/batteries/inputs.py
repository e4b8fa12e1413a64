"""Wrong input to everything public: a documented error, before any kernel runs and before anything changes.

A case is a right call with one argument made wrong by one fault. What must hold of it:

- an error of `nnfast.errors` that is a ValueError or a TypeError, or what else the documentation names
- no kernel and no program has run, on either backend of the CPU
- it took less than two seconds of a processor, however busy the machine is, and nothing warned
- every object that the call saw, every argument, and the settings of the process are as before, to the byte

The right calls are tried as well: a fault in a call that is wrong anyway would prove nothing. Case 17 is the same in
every process: `python -c "from batteries.inputs import again; again(17)"` in the folder of the tests repeats it.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from batteries import (
    Figure,
    _call_book_model,
    _call_compat,
    _call_estimators,
    _call_files,
    _call_fit,
    _call_functional,
    _call_model,
    _call_ops,
    _call_parts,
    _call_population,
    _call_settings,
)
from batteries._kinds import Draw
from batteries._reached import missed, public_arguments
from batteries._targets import Target, World, drawn
from batteries._watching import Kernels, backends, difference, seen
from batteries._worlds import MAKERS
from nnfast.errors import BackendUnavailable, NnfastError

__all__ = ["again", "battery"]

CASES = 10_000
THOROUGHLY = 10  # times as many
RIGHT = 2  # calls of each function without a fault, on each backend
SEED = 20_240
SECONDS = 2.0
MODULES = (
    _call_functional,
    _call_parts,
    _call_settings,
    _call_ops,
    _call_fit,
    _call_model,
    _call_files,
    _call_compat,
    _call_book_model,
    _call_population,
    _call_estimators,
)
TARGETS: list[Target] = [target for module in MODULES for target in module.TARGETS]


class Combination(NamedTuple):
    """A function, an argument of it, and what is wrong with that."""

    target: Target
    argument: str
    fault: str

    def __str__(self) -> str:
        return f"{self.target.name}, {self.argument}: {self.fault}"


def _combinations() -> list[Combination]:
    """One fault of every argument, then a second one of each, and so on: no argument waits for long."""
    rounds: dict[int, list[Combination]] = {}
    for target, name in ((t, name) for t in TARGETS for name in t.kinds):
        faults = list(target.kinds[name].wrong)
        order = np.random.default_rng([SEED, len(rounds.get(0, ()))]).permutation(len(faults))
        for turn, i in enumerate(order):
            rounds.setdefault(turn, []).append(Combination(target, name, faults[i]))
    return [combination for turn in sorted(rounds) for combination in rounds[turn]]


COMBINATIONS = _combinations()


def battery(thorough: bool) -> Iterator[Figure]:
    names = backends()
    worlds = {name: World(name, MAKERS) for name in names}
    with Kernels() as kernels:
        failures, ran = [], 0
        for target in TARGETS:
            for name, number in [(name, number) for name in names for number in range(RIGHT)]:
                before = kernels.ran
                failures += _right(target, worlds[name], number)
                ran += kernels.ran > before
        said = f"{ran:,} of them ran kernels"
        yield Figure("right calls", len(TARGETS) * len(names) * RIGHT, tuple(failures), said)
        cases = CASES * (THOROUGHLY if thorough else 1)
        failures, errors, slowest = [], Counter(), 0.0
        for number in range(cases):
            fault, error, seconds = _try(number, worlds, kernels)
            failures += [f"case {number}, {fault}"] if fault else []
            errors[error] += 1
            slowest = max(slowest, seconds)
        words = ", ".join(f"{name} {count:,}" for name, count in errors.most_common(4))
        yield Figure(
            "wrong calls", cases, tuple(failures), f"{len(COMBINATIONS):,} faults; slowest {slowest:.2f} s; {words}"
        )
    for world in worlds.values():
        world.close()
    reached = {f"{c.target.name}({c.argument})" for c in COMBINATIONS}
    public = public_arguments()
    functions = {argument.partition("(")[0] for argument in reached}
    said = f"{len(functions)} functions and {len(reached & set(public))} arguments reached of {len(public)} there are"
    yield Figure("arguments", len(public), tuple(missed(reached)), said)


def again(number: int) -> None:
    """Repeat one case and show what it raises."""
    with Kernels() as kernels:
        fault, error, seconds = _try(number, {name: World(name, MAKERS) for name in backends()}, kernels, loud=True)
    print(COMBINATIONS[number % len(COMBINATIONS)], fault or f"as it should be, {error}", f"{seconds:.3f} s", sep="; ")


def _right(target: Target, world: World, number: int) -> list[str]:
    """The call without a fault; what it has changed is made anew."""
    draw = drawn(target, world, np.random.default_rng([SEED, number]))
    silent = io.StringIO()
    try:
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that two epochs are few
            target.function(world, **_with_some_left_out(target, draw))
    except Exception as error:
        return [f"{target.name} on {world.backend}, a right call: {type(error).__name__}: {error}"]
    finally:
        world.forget()
    return []


def _try(number: int, worlds: dict[str, World], kernels: Kernels, *, loud: bool = False) -> tuple[str, str, float]:
    """The case with this number: what went wrong in words, or nothing; the error's name; seconds."""
    combination = COMBINATIONS[number % len(COMBINATIONS)]
    target, name, fault = combination
    rng = np.random.default_rng([SEED, number])
    world = worlds[sorted(worlds)[int(rng.integers(len(worlds)))]]
    draw = drawn(target, world, rng)
    # A list has neither memory nor a dtype to differ from; and lists of rows without y are batches.
    of_arrays = "array of" in fault or "other floats" in fault or fault == "None"
    given = _with_some_left_out(target, draw, name, lists=not of_arrays)
    given[name] = target.kinds[name].wrong[fault](draw, draw.right[name])
    before, ran = world.seen(target.uses, anew=False) | seen(given, "argument"), kernels.ran
    raised, warned, seconds = _call(target, world, given)
    if loud and raised is not None:
        print(f"{type(raised).__name__}: {raised}", file=sys.stderr)
    ran = kernels.ran - ran
    after = world.seen(target.uses, anew=True) | seen(given, "argument")
    change = difference(before, after, target.ignores)
    wrong = _verdict(target, raised, warned, seconds, ran, change)
    if wrong or target.ignores:  # what has changed may be seen from elsewhere
        world.forget()
    if wrong:
        wrong = f"{combination} on {world.backend}: {wrong}"
    return wrong, type(raised).__name__, seconds


def _with_some_left_out(target: Target, draw: Draw, wanted: str = "", *, lists: bool = True) -> dict[str, Any]:
    """The right values; what may be is left out or given as lists now and then, but for the argument on trial."""
    given = dict(draw.right)
    lists = lists and draw.rng.integers(6) == 0 and not (wanted and target.kinds[wanted].listed)
    for name, kind in target.kinds.items():
        if name == wanted:
            continue
        if kind.optional and draw.rng.integers(2):
            del given[name]
        elif kind.listed and lists:
            given[name] = given[name].tolist()
    return given


def _call(target: Target, world: World, given: dict) -> tuple[BaseException | None, list, float]:
    raised = None
    with warnings.catch_warnings(record=True) as warned, np.errstate(all="warn"):
        warnings.simplefilter("always")
        begin = time.process_time()
        try:
            target.function(world, **given)
        except Exception as error:
            raised = error
        seconds = time.process_time() - begin
    return raised, warned, seconds


def _verdict(target: Target, raised, warned, seconds: float, ran: int, change: str) -> str:
    if raised is None:
        return "was taken"
    sort = type(raised).__name__
    usual = isinstance(raised, NnfastError) and isinstance(raised, ValueError | TypeError)
    if not usual and not isinstance(raised, (BackendUnavailable, *target.also)):
        return f"raised {sort}: {raised!s:.200}"
    if not str(raised):
        return f"raised {sort} without a word"
    if ran:
        return f"raised {sort} after {ran} kernels"
    if change:
        return f"raised {sort}, but {change}"
    if warned:
        return f"warned: {warned[0].message!s:.200}"
    return f"took {seconds:.1f} s" if seconds > SECONDS else ""
