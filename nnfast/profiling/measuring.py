"""`Model.profile`: where a step spends its time, op by op, beside what this machine could do.

    print(model.profile(X, y, batch_size=128))

The step is measured as it is, and again with a clock around every op, by turns; the least of each counts, for every op
by itself. What the fastest step with clocks took beyond the ops is "between ops": the way from one to the next, and
what other programs took from it. All of it happens on a copy of the model, at learning rate 0, so that the steps of a
long measurement all do the same.

A runner that can time its ops has a method

    profile(job) -> ([(op, seconds), …], seconds, threads), or None where it cannot here

which runs the job like `run` and gives the seconds that its steps spent in each op, all of them together, in order, and
those of the whole run: `op` is the op's place in the Program, or a few words for what the runner does beside (gathering
rows, adding up shares). With several threads the seconds are those by which the op held up the step. What is missing
from the whole becomes a line of its own. For a runner without this method each op is called alone, by `backend.kernel`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast._numbers import number
from nnfast.errors import OptionError, StateError
from nnfast.profiling.report import Profile, Row, name_of
from nnfast.profiling.roofline import Roofline, measure
from nnfast.profiling.walking import walker
from nnfast.program import Cost, Program
from nnfast.protocol import Job
from nnfast.random import permutation
from nnfast.training.batches import Data, evaluation_rows, normalisers, prepare
from nnfast.validation import features, integer

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["Profile", "Row", "profile"]

Lines = list[tuple[int | str, float]]

PAIRS = 16  # of measurements without and with clocks that the time is divided into
FEWEST, WANTED = 2, 6  # pairs in any case, and if they can be had in three times the time
# Seconds of one measurement: long enough for a runner to find out whether threads help just now, and so short that some
# are left in peace by other programs, and that Ctrl-C is heard.
SHORTEST, LONGEST = 0.025, 0.1
TRIED = 32  # steps, for the same reason, unless they take longer than half a second
MOST_STEPS = 1 << 20
ORDER_ROWS = 2_000_000  # row numbers in the order of one measurement at most


def profile(
    model: Model,
    X: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    seconds: float = 1.0,
    sample_weight: Any = None,
) -> Profile:
    """Measure each op of the model's step on these rows; returns a `Profile`, to be printed, plotted or read.

    X (N, n_inputs), y, sample_weight and batch_size are as for `fit`, and batches are shuffled as there. A model
    without an optimizer is measured evaluating, and without y predicting. `seconds` is about how long to measure; the
    machine's roofline takes a quarter of a second more, once per process. FLOPs and bytes are counted, not measured:
    see `Program.costs`. The model stays as it is, to the bit. Raises what `fit` raises, before anything is measured.
    """
    mode = _mode(model, y, sample_weight)
    seconds = number("seconds", seconds, 0, low_open=True)
    bench = _Bench(model, mode, X, y, sample_weight, batch_size)
    steps = bench.warm_up(seconds)
    total, timed, lines, threads = bench.measure(steps, seconds)
    roofline = measure(bench.program.dtype, threads) if model.backend.device == "cpu" else None
    return Profile(
        _rows(bench.program, lines, timed, bench.costs(steps), roofline),
        total,
        timed,
        mode,
        model.backend.name,
        bench.program.dtype,
        bench.size,
        threads,
        roofline,
        bench.one_by_one,
    )


def _mode(model: Model, y: Any, sample_weight: Any) -> str:
    """Which program these arguments ask for."""
    if model.optimizer is not None:
        model._needs("profile", optimizer=True)
        return "train"
    if y is not None:
        if model.loss is None:
            raise StateError("profile with y needs a loss: Model(layers, loss=…); predicting is profiled with y=None")
        return "evaluate"
    if sample_weight is not None:
        raise OptionError("sample_weight was given without y; predictions have no weights")
    return "predict"


class _Bench:
    """A copy of the model with the jobs to be measured, and the two ways of running them."""

    def __init__(self, model: Model, mode: str, X: Any, y: Any, weight: Any, batch_size: int | None) -> None:
        x, y, weight = _checked(model, mode, X, y, weight, batch_size)
        with model._programs.exclusive():
            twin: Model = copy.deepcopy(model, {id(model.backend): model.backend})
        self._model, backend = twin, twin.backend
        self.program, self._runner = twin._programs.runner(mode)
        self._profile: Callable[[Job], Any] | None = getattr(self._runner, "profile", None)
        self.one_by_one = False
        self.rows = len(x)
        whole = self.rows if mode == "train" else evaluation_rows(self.program)
        self.size = min(self.rows, whole if batch_size is None else batch_size)
        self.batches = -(-self.rows // self.size)
        shuffled = mode == "train" and self.batches > 1
        self._order = permutation(twin._key, 0, self.rows)[None] if shuffled else None
        self._job = Job(twin._buffers, backend.asarray(x), key=twin._key, batch_size=self.size)
        self._job.scalars = twin._programs.scalars(self.program)
        if mode == "predict":
            self._job.output = backend.empty((self.rows, twin.n_outputs), twin.dtype)
            self._normalisers = np.ones(1)
        else:
            data = Data(twin, x, y, weight, self.size)
            self._job.y, self._job.sample_weight = data.y, data.device_weight
            self._normalisers = normalisers(data.batch_weights(self._order))

    def _jobs(self, steps: int) -> Job:
        """So many steps from where the model stands: at rate 0, so that its parameters stay what they are."""
        begun = 0 if self._model.optimizer is None else self._model.optimizer.steps
        return replace(
            self._job,
            steps=steps,
            order=None if self._order is None else np.tile(self._order, (-(-steps // self.batches), 1)),
            learning_rates=np.zeros(steps),
            normalisers=np.resize(self._normalisers, steps),
            first_step=begun + 1,
        )

    def _run(self, steps: int) -> float:
        """Seconds of a step, without clocks."""
        job = self._jobs(steps)
        begin = time.perf_counter()
        self._runner.run(job)
        self._model.backend.synchronize()
        return (time.perf_counter() - begin) / steps

    def _time(self, steps: int) -> tuple[float, Lines, int]:
        """Seconds of a step with a clock around each op, those of its ops, and how many threads it took."""
        job = self._jobs(steps)
        told = self._profile(job) if self._profile is not None else None
        if told is None:
            self._profile = self._walk()
            told = self._profile(job)
        lines, whole, threads = told
        return whole / steps, [(op, t / steps) for op, t in lines], threads

    def _walk(self) -> Callable[[Job], Any]:
        """The reference's runner with this backend's kernels, one after the other."""
        self.one_by_one = True
        walk: Callable[[Job], Any] = walker(self.program, self._model.backend).profile
        return walk

    def warm_up(self, seconds: float) -> int:
        """Compile what there is to compile; returns how many steps one measurement has."""
        self._run(1)
        self._time(1)
        wanted = min(max(seconds / (2 * PAIRS), SHORTEST), LONGEST)
        steps, most = 1, MOST_STEPS
        if self._order is not None:
            most = max(1, ORDER_ROWS // self.rows) * self.batches
        each = self._run(1)
        while each * steps < wanted / 2 and steps < most:
            steps = min(2 * steps, most)
            each = min(self._run(steps) for _ in range(3))  # of a few, since one may have been interrupted
        steps = max(1, min(max(int(wanted / each), min(TRIED, int(0.5 / each))), most))
        return steps if steps < self.batches else steps - steps % self.batches

    def measure(self, steps: int, seconds: float) -> tuple[float, float, Lines, int]:
        """Seconds of a step without clocks and with, and those of its ops; of each the least that was measured.

        Where other programs interrupt a step, that would else be blamed on the op that happened to be running.
        """
        begin = time.perf_counter()
        plain: list[float] = []
        timed: list[tuple[float, Lines, int]] = []
        while (pairs := len(plain)) < FEWEST or time.perf_counter() - begin < seconds * (3 if pairs < WANTED else 1):
            plain.append(self._run(steps))
            timed.append(self._time(steps))
        whole, fastest, threads = min(timed, key=lambda t: t[0])
        alike = [dict(lines) for _, lines, n in timed if n == threads]
        lines = [(op, min(each[op] for each in alike)) for op, _ in fastest]
        return min(plain), whole, lines, threads

    def costs(self, steps: int) -> list[tuple[float, float, Cost]]:
        """Bytes and FLOPs of each op, averaged over the batches of a measurement, and those of a full batch."""
        full, short = self.program.costs(self.size), self.program.costs(self.rows - (self.batches - 1) * self.size)
        part = 1 / self.batches if steps >= self.batches else 0.0  # of the steps, on the last batch of an epoch
        idle, nothing = self.program.idle_ops(self._job.scalars), (0.0, 0.0, Cost(0, 0))
        return [
            nothing if i in idle else (a.bytes + part * (b.bytes - a.bytes), a.flops + part * (b.flops - a.flops), a)
            for i, (a, b) in enumerate(zip(full, short, strict=True))
        ]


def _checked(model: Model, mode: str, X: Any, y: Any, weight: Any, batch_size: int | None) -> tuple[Any, Any, Any]:
    """X, y and weights, checked and converted as `fit` does; of rows on disk as many as it reads at a time."""
    if mode == "predict":
        if batch_size is not None:
            integer("batch_size", batch_size, 1)
        return features("X", X, model.n_inputs, model.dtype, backend=model.backend), None, None
    data = prepare(model, X, y, weight, batch_size)
    optimizer = model.optimizer
    if optimizer is not None and not optimizer.uses_gradients and data.size < data.rows:
        raise OptionError(f"{type(optimizer).__name__} takes the whole set at once; leave batch_size out")
    staged = data.staged
    if staged is None:
        return data.x, data.y, data.weight
    rows = slice(0, max(data.size, staged.rows_at_once))
    return *staged.take(rows), None if data.weight is None else data.weight[rows]


def _rows(
    program: Program,
    lines: Lines,
    whole: float,
    costs: list[tuple[float, float, Cost]],
    roofline: Roofline | None,
) -> tuple[Row, ...]:
    """All ops of the program in order, with what the runner does beside them where it does it, and what is left."""
    rows: list[Row] = []
    seconds = dict(lines)

    def op(i: int) -> Row:
        own, (moved, computed, full) = program.ops[i], costs[i]
        floor, bound = None, ""
        if roofline is not None and own.name != "python" and full.bytes:
            floor, bound = roofline.seconds(full) * moved / full.bytes, roofline.bound(full)
        t = seconds.get(i, 0.0)
        name, layer, size = name_of(own, program)
        return Row(i, own.stage, name, layer, size, t, t / whole, moved, computed, floor, bound, i in seconds)

    def beside(what: str, t: float) -> Row:
        return Row(None, "", what, "", "", t, t / whole, 0, 0, None, "")

    todo = 0
    for which, t in seconds.items():
        if isinstance(which, str):
            rows.append(beside(which, t))
            continue
        rows += [op(i) for i in range(todo, which + 1)]
        todo = max(todo, which + 1)
    rows += [op(i) for i in range(todo, len(program.ops))]
    left = whole - sum(seconds.values())
    if abs(left) > 1e-9 * whole:
        rows.append(beside("between ops", left))
    return tuple(rows)
