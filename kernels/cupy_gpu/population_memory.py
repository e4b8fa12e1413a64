"""Device memory of the models that step together: a block for each, all alike, and what each reads its numbers from.

Blocks lie one after the other, so an address of one model is that of the first plus a multiple of the block's size;
and every array in them begins where it would begin for a model alone, 256 bytes apart at least.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.protocol import Array, PopulationJob

from .control import JOB_WORDS, STEP_WORDS, address_of

if TYPE_CHECKING:
    from nnfast.protocol import Program

__all__ = ["Blocks", "Numbers", "Room"]

ALIGNED = 256  # bytes


class Room(NamedTuple):
    """Bytes of a block by the name of what lies there; `size` is that of the block."""

    starts: Mapping[str, int]
    size: int

    @staticmethod
    def of(sizes: Mapping[str, int]) -> Room:
        starts, end = {}, 0
        for name, size in sizes.items():
            starts[name] = end
            end += -(-size // ALIGNED) * ALIGNED
        return Room(starts, max(end, ALIGNED))


class Blocks:
    """Blocks for as many models as there is memory for; they move when they grow, never otherwise."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._sizes: Mapping[str, int] = {}  # what was asked for so far
        self._wanted = 0
        self.release()

    def release(self) -> None:
        """Give the memory back."""
        self._memory: Array = self._cupy.empty(0, np.uint8)
        self.room, self.models = Room({}, ALIGNED), 0

    def fit(self, sizes: Mapping[str, int], models: int) -> bool:
        """Whether these arrays have room, of so many models or of as many as there was memory for."""
        enough = all(size <= self._sizes.get(name, -1) for name, size in sizes.items())
        return self.models > 0 and models <= self._wanted and enough

    def make(self, sizes: Mapping[str, int], models: int, beside: int) -> None:
        """Make room, for fewer models where memory ends; each needs `beside` bytes elsewhere as well.

        What was there is given back before, so nothing may hold its addresses any more.
        """
        sizes = {**self._sizes, **{name: max(size, self._sizes.get(name, 0)) for name, size in sizes.items()}}
        wanted, room = max(models, self._wanted), Room.of(sizes)
        self.release()
        most = max(1, min(wanted, _free(self._cupy) // 2 // (room.size + beside)))
        while True:
            try:
                memory = self._cupy.empty(most * room.size, np.uint8)
                break
            except self._cupy.cuda.memory.OutOfMemoryError:
                if most == 1:
                    raise
                most //= 2
        self._memory, self._sizes, self._wanted, self.room, self.models = memory, sizes, wanted, room, most

    def address(self, name: str, model: int) -> int:
        return int(self._memory.data.ptr) + self.room.starts[name] + model * self.room.size

    def rows(self, name: str, dtype: Any, models: int, size: int) -> Array:
        """(models, size): the arrays of this name, as a view."""
        kind = np.dtype(dtype)
        start = self.room.starts[name] // kind.itemsize
        whole = self._memory.view(kind).reshape(self.models, -1)
        return whole[:models, start : start + size]


def _free(cupy: Any) -> int:
    """Bytes that can be allocated."""
    pool = cupy.get_default_memory_pool()
    free, limit = cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes(), pool.get_limit()
    return int(min(free, limit - pool.used_bytes()) if limit else free)


class Numbers:
    """`struct Job`, `struct Step` and the program's scalars, a record for each model; and its tables and sums."""

    def __init__(self, cupy: Any, program: Program) -> None:
        self._cupy = cupy
        self._n_sums, self._scalars = len(program.sums), len(program.scalars)
        self.words = len(JOB_WORDS) + len(STEP_WORDS) + self._scalars
        self._device: Array = cupy.empty((0, self.words), np.int64)
        self._held: list[Any] = []  # what the records point to
        self._sums: Array = None

    def make_room(self, models: int) -> None:
        """Room for so many records; where it grows, they move."""
        if len(self._device) < models:
            self._device = self._cupy.empty((models, self.words), np.int64)

    def addresses(self, model: int) -> tuple[int, int, int]:
        """Where a model's Job, Step and scalars lie."""
        start = int(self._device.data.ptr) + 8 * model * self.words
        return start, start + 8 * len(JOB_WORDS), start + 8 * (len(JOB_WORDS) + len(STEP_WORDS))

    def beside(self, job: PopulationJob) -> int:
        """Bytes that each model's tables, sums and row orders take."""
        order = 0 if job.order is None else job.order[0].size
        return 8 * (order + job.steps * (self._n_sums + 2))

    def begin(self, job: PopulationJob, rows: int, size: int, batches: int) -> None:
        """Put the numbers of a job, all of whose models step together, on the device."""
        models = len(job.models)
        self._sums = self._cupy.empty((models, job.steps, self._n_sums), np.float64)
        self._held = []
        labels = job.y is not None and job.y.ndim - ("y" in job.own) == 1
        y = self._rows_of(job, "y")
        values = {
            "x": self._rows_of(job, "x"),
            "labels": y if labels else 0,
            "y": 0 if labels else y,
            "weight": self._rows_of(job, "sample_weight"),
            "output": self._rows_of(job, "output"),
            "order": self._table(job.order, np.int64),
            "sums": address_of(self._sums) + np.arange(models) * (8 * job.steps * self._n_sums),
            "learning_rates": self._table(job.learning_rates, np.float64),
            "normalisers": self._table(job.normalisers, np.float64),
            "first_rows": 0,
            "rows": rows,
            "batch_size": size,
            "batches": batches,
            "first_batch": job.first_batch,
            "first_step": 1 if job.first_steps is None else job.first_steps,
            "steps": job.steps,
            "key": 0 if job.keys is None else np.asarray(job.keys, np.uint64).view(np.int64),
            "n_sums": self._n_sums,
        }
        words = np.zeros((models, self.words), np.int64)
        for i, name in enumerate(JOB_WORDS):
            words[:, i] = values[name]
        words[:, len(JOB_WORDS) + STEP_WORDS.index("nonfinite")] = -1
        words[:, len(JOB_WORDS) + len(STEP_WORDS) :] = np.ascontiguousarray(job.scalars, np.float64).view(np.int64)
        self._device[:models] = self._cupy.asarray(words)

    def results(self, models: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The sums (models, steps, columns), and the first step of each that the device found not finite, or −1."""
        at = len(JOB_WORDS) + STEP_WORDS.index("nonfinite")
        return self._cupy.asnumpy(self._sums), self._cupy.asnumpy(self._device[:models, at].copy())

    def begun(self) -> int:
        """How many steps the device has begun."""
        at = len(JOB_WORDS) + STEP_WORDS.index("next")
        return int(self._cupy.asnumpy(self._device[:1, at].copy())[0])

    def _rows_of(self, job: PopulationJob, name: str) -> Any:
        """Where each model's data begin."""
        array = getattr(job, name)
        if array is None:
            return 0
        own = name in job.own or name == "output"
        return address_of(array) + (np.asarray(job.models) * array.strides[0] if own else 0)

    def _table(self, table: Any, dtype: Any) -> Any:
        """Where each model's row of a table begins, once it is on the device."""
        if table is None:
            return 0
        device = self._cupy.asarray(np.ascontiguousarray(table, dtype))
        self._held.append(device)
        return address_of(device) + np.arange(len(device)) * device.strides[0]
