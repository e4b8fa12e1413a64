"""The contract between nnfast and its backends: every op with its shapes, and what a backend is.

This is the only module that `kernels/` imports from nnfast, and it loads nothing but NumPy.
What it fixes:

- `OPS`, one `OpSpec` per op (the table is in `nnfast/ops.py`). A kernel is a function called with the op's arrays by
  position, in the order of its signature, then its scalars and attributes by keyword; it returns None.
- `Buffer` and `Op`, the rows of a `Program`; `Job` and `Result`, what goes into a run and what comes out, and
  `PopulationJob`, the same for many models;
- `Backend` and `Runner`, who computes; `num_threads()`, how many threads they may use for it; `permutation`, the row
  order of an epoch, for a backend that draws them itself.

Signatures are written `x[N,I] w[I,O] b[O] -> y[N,O]`. A name before the arrow is read, a name after it is filled
completely, whatever it held. Marks: `!` read and updated in place; `?` may be None; `:f8` always float64;
`:label` class indices (N,) int64, or rows of the op's shape. All else has the working dtype, float32 or float64.
Dimensions: N rows, I inputs, O outputs, P parameters, S sums. Arrays are C-contiguous, native, aligned; inputs may be
read-only. Kernels do not validate: `nnfast.functional` and `nnfast.Model` do, once, before any kernel runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from nnfast.errors import OptionError
from nnfast.ops import CUSTOM, OPS, PENALTIES, Arg, OpSpec
from nnfast.random import permutation
from nnfast.threads import get_num_threads as num_threads  # the number of threads that backends may use

if TYPE_CHECKING:
    from nnfast.program import Program as Program

__all__ = [
    "ALIGNMENT",
    "API_VERSION",
    "CUSTOM",
    "OPS",
    "PENALTIES",
    "RUN_SCALARS",
    "Arg",
    "Aside",
    "Backend",
    "Buffer",
    "Buffers",
    "Job",
    "Kernel",
    "Op",
    "OpReport",
    "OpSpec",
    "OptionError",
    "PopulationAside",
    "PopulationJob",
    "Result",
    "Runner",
    "num_threads",
    "permutation",
]

API_VERSION = 1
ALIGNMENT = 256  # bytes: where every block of a flat array begins, on every backend

Kernel = Callable[..., None]
Array = Any  # what the backend computes on: numpy.ndarray, or a device array

# Scalars that the runner knows itself; every other scalar of an op is a named entry of `Program.scalars`.
RUN_SCALARS = ("learning_rate", "normaliser", "step", "key", "first_row")


class Buffer(NamedTuple):
    """An array that ops name: a view into one of the flat spaces.

    Spaces: "parameters", "gradients", a slot of the optimizer ("m", "v", …), all 1-D with `offset` in elements;
    "arena", where `offset` counts columns of (capacity,) elements and the shape is ("N", width); "state" and "sums"
    (float64); and the rows of the running batch, "x", "y", "weight", "output".
    """

    name: str
    space: str
    offset: int
    shape: tuple[int | str, ...]

    @property
    def width(self) -> int:
        """Elements per row for a buffer with rows, else elements in all."""
        width = 1
        for n in self.shape:  # a loop, since lowering and plans ask often
            if not isinstance(n, str):
                width *= n
        return width


class Op(NamedTuple):
    """One row of a Program: which op, on which buffers (in the order of its signature), with which scalars.

    `scalars` pairs the kernel's keyword with a name of `Program.scalars` or of `RUN_SCALARS`, or with a number that
    is part of the structure. The op named "python" calls its attribute `call` with the buffers, outside any kernel.
    """

    name: str
    args: tuple[Buffer | None, ...]
    scalars: tuple[tuple[str, str | float], ...] = ()
    attributes: tuple[tuple[str, Any], ...] = ()
    stage: str = "forward"


@dataclass(slots=True)
class Buffers:
    """A model's flat arrays: parameters, gradients, one per optimizer slot, and a few float64 numbers of state.

    Runners may keep views of them: they change in place, and who replaces one has its programs compiled again.
    Copies and pickles hold them on the host; who makes a model of these brings them to its backend (`buffers.realign`).
    """

    parameters: Array
    gradients: Array
    slots: dict[str, Array]
    state: Array
    backend: Backend | None = None  # whose arrays they are, where those are not NumPy's

    def __getstate__(self) -> tuple[Any, ...]:
        to_numpy = np.asarray if self.backend is None else self.backend.to_numpy
        slots = {name: to_numpy(slot) for name, slot in self.slots.items()}
        return to_numpy(self.parameters), to_numpy(self.gradients), slots, to_numpy(self.state)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.parameters, self.gradients, self.slots, self.state = state
        self.backend = None


@dataclass(slots=True)
class Job:
    """Everything that a run needs beside the Program; all of it may change from run to run without recompiling.

    The job makes `steps` steps. Step s takes batch `(first_batch + s) mod B` of B = ceil(rows/batch_size); the last
    batch of an epoch may be short. `order[e]` is the row order of the e-th epoch that the job touches.
    """

    buffers: Buffers
    x: Array
    y: Array | None = None
    sample_weight: Array | None = None
    order: Array | None = None  # (epochs, rows) int64, or None for the natural order
    output: Array | None = None  # (rows, outputs): where a prediction goes
    batch_size: int = 0  # 0: all rows
    steps: int = 1
    first_batch: int = 0
    learning_rates: Any = None  # (steps,) float64
    normalisers: Any = None  # (steps,) float64: what the batch's sums are divided by
    first_step: int = 1  # the number of the first step, counted from 1 over the model's life
    key: int = 0  # 64-bit seed of dropout and of random search
    first_rows: Any = None  # (steps,) int64: the number of the batch's first row in the global batch, for dropout; 0
    scalars: Any = ()  # one float64 per name in Program.scalars
    on_gradients: Callable[[Array], None] | None = None  # called with the flat gradient, before clipping
    pauses: Any = ()  # after so many steps of the job, ascending, `aside` has its turn
    aside: Aside | None = None
    done: int = 0  # set by the runner: steps completed, right even where `run` raises


@dataclass(slots=True)
class Aside:
    """A job of another program, run over and over between two steps of a job: the validation of a training.

    It changes nothing of the model's buffers. Its sums, as in `Result`, are appended to `sums` once per turn or for
    several turns together.
    """

    runner: Runner
    job: Job
    sums: list[Any] = field(default_factory=list)  # (turns · steps, columns) float64 each

    def run(self) -> None:
        """One turn."""
        self.sums.append(self.runner.run(self.job).sums)


@dataclass(slots=True)
class Result:
    """What a run gives back: per step, one row of sums (columns as in `Program.sums`), not yet normalised.

    `nonfinite` is the index of the first step whose loss or gradient was not finite, or −1.
    """

    sums: Any  # (steps, columns) float64
    nonfinite: int = -1


@dataclass(slots=True)
class PopulationJob:
    """The same steps of one Program for many models, each with weights, numbers and perhaps data of its own.

    Each flat array of `buffers` has a row per model; `models` says which rows take part, M of them. What has M in its
    shape has an entry for each of these, in that order. Data are shared, as in `Job`, or, where `own` names them ("x",
    "y", "sample_weight"), have an axis of all models before their usual ones; so has `output`, always.
    Model m gets what `alone(m, …)` would give it on one thread, to the bit.
    """

    buffers: Buffers
    models: Any  # (M,) int64
    x: Array = None
    y: Array | None = None
    sample_weight: Array | None = None
    own: frozenset[str] = frozenset()
    order: Any = None  # (M, epochs, rows) int64, or None for the natural order
    output: Array | None = None
    batch_size: int = 0
    steps: int = 1
    first_batch: int = 0
    learning_rates: Any = None  # (M, steps) float64
    normalisers: Any = None  # (M, steps) float64
    first_steps: Any = None  # (M,) int64
    keys: Any = None  # (M,) uint64
    scalars: Any = None  # (M, names in Program.scalars) float64
    pauses: Any = ()
    aside: PopulationAside | None = None
    done: Any = None  # (M,) int64, set by who runs it: steps that each model has completed

    def alone(self, m: int, buffers: Buffers) -> Job:
        """The job of the m-th of the models that take part, on flat arrays that hold its numbers."""
        k = int(self.models[m])
        x, y, weight = (
            array[k] if name in self.own and array is not None else array
            for name, array in (("x", self.x), ("y", self.y), ("sample_weight", self.sample_weight))
        )
        return Job(
            buffers,
            x,
            y,
            weight,
            order=None if self.order is None else self.order[m],
            output=None if self.output is None else self.output[k],
            batch_size=self.batch_size,
            steps=self.steps,
            first_batch=self.first_batch,
            learning_rates=None if self.learning_rates is None else self.learning_rates[m],
            normalisers=None if self.normalisers is None else self.normalisers[m],
            first_step=1 if self.first_steps is None else int(self.first_steps[m]),
            key=0 if self.keys is None else int(self.keys[m]),
            scalars=() if self.scalars is None else self.scalars[m],
        )


@dataclass(slots=True)
class PopulationAside:
    """As `Aside`, for a population: the same models, in the same order."""

    runner: Runner
    job: PopulationJob
    sums: Any = None  # (M, pauses, steps of the job, columns) float64, set by who runs it


class OpReport(NamedTuple):
    """Who runs one op: a row of `Model.backend_report()`."""

    op: str
    implementation: str
    reason: str = ""


class Runner(Protocol):
    """A compiled Program: owns the arena, and no state that outlives a run.

    A runner that knows `Job.aside` has an attribute `takes_pauses = True`; with others jobs end where a pause is due.
    Also optional are `profile(job)`, see `nnfast.profiling`, and `run_population(job)`. That runs a `PopulationJob`,
    sets its `done` and its aside's sums, and returns a Result with an axis of models before, `sums` (M, steps, columns)
    and `nonfinite` (M,); or None where it cannot, and then the models are run one after the other.
    """

    program: Program

    def run(self, job: Job) -> Result: ...

    def report(self) -> list[OpReport]: ...


class Backend(Protocol):
    """Who computes. A class with these members is a backend; `nnfast.testing` holds the tests that it must pass.

    Optional is `row_orders(keys, epochs, rows)`: what `permutation` gives for each, (len(keys), rows), or
    None where the caller is to draw them.
    """

    name: str
    device: str  # "cpu", or the kind of device whose arrays it takes
    api_version: int

    def unavailable(self) -> str | None:
        """None, or why this backend cannot work here and what would mend it. Must not raise."""

    def kernel(self, op: str) -> Kernel | None:
        """The kernel of an op on this backend's arrays, or None where it has none."""

    def asarray(self, a: Any, dtype: Any = None) -> Array:
        """A C-contiguous array of this backend; no copy where `a` is one already."""

    def to_numpy(self, a: Array) -> np.ndarray[Any, Any]: ...

    def empty(self, shape: Any, dtype: Any) -> Array:
        """Uninitialised, aligned to 256 bytes."""

    def zeros(self, shape: Any, dtype: Any) -> Array: ...

    def synchronize(self) -> None:
        """Return when all work given to the device is done."""

    def compile(self, program: Program) -> Runner: ...
