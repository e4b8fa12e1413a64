"""What changes from job to job and from step to step, in device memory: captured kernels read it from there.

`struct Job` and `struct Step` are declared in `src/gather.cu`. A job writes both, and the numbers that the program
names, in one copy; its tables (a learning rate per step and the like) and its row orders go in one copy each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.protocol import Array, Job

from . import gather
from .emitter import signed

if TYPE_CHECKING:
    from nnfast.protocol import Program

__all__ = ["JOB_WORDS", "STEP_WORDS", "Control", "address_of"]

JOB_WORDS, STEP_WORDS = (
    gather.job_layout().names or (),
    gather.step_layout().names or (),
)  # fields of 8 bytes, all of them


class Control:
    """One runner's control block, at addresses that stay."""

    def __init__(self, cupy: Any, program: Program) -> None:
        self._cupy = cupy
        self._n_sums = len(program.sums)
        words = [len(JOB_WORDS), len(STEP_WORDS), len(program.scalars)]
        self._device: Array = cupy.zeros(8 * sum(words), np.uint8)
        self._host = _pinned(cupy, 8 * sum(words))
        self._job_words, self._step_words, scalars, _ = np.split(self._host.view(np.int64), np.cumsum(words))
        self._scalars = scalars.view(np.float64)
        starts = int(self._device.data.ptr) + 8 * np.cumsum([0, *words])
        self.job_address, self.step_address, self.scalars_address = map(int, starts[:3])
        self._host_tables = _pinned(cupy, 0)
        self._tables: Array = cupy.empty(0, np.uint8)
        self._order: Array = cupy.empty(0, np.int64)
        self._host_order: Any = None
        self._sums: Array = cupy.empty(0, np.float64)
        self._host_sums = _pinned(cupy, 0)

    def begin(self, job: Job, rows: int, size: int, batches: int) -> None:
        """Put the job's numbers on the current stream's way to the device."""
        labels = job.y is not None and job.y.ndim == 1
        values = {
            "x": address_of(job.x),
            "labels": address_of(job.y) if labels else 0,
            "y": 0 if labels else address_of(job.y),
            "weight": address_of(job.sample_weight),
            "output": address_of(job.output),
            "order": self._place_order(job.order),
            "sums": self._place_sums(job.steps),
            **self._place_tables(job),
            "rows": rows,
            "batch_size": size,
            "batches": batches,
            "first_batch": job.first_batch,
            "first_step": job.first_step,
            "steps": job.steps,
            "key": signed(job.key),
            "n_sums": self._n_sums,
        }
        self._job_words[:] = [values[name] for name in JOB_WORDS]
        self._step_words[:] = [-1 if name == "nonfinite" else 0 for name in STEP_WORDS]
        self._scalars[: len(job.scalars)] = job.scalars
        self._copy_in(self._device, self._host)

    def results(self, steps: int) -> tuple[np.ndarray[Any, Any], int]:
        """The sums of each step, and the first step with a gradient that was not finite, or −1; waits for them."""
        head, count = 8 * len(STEP_WORDS), 8 * steps * self._n_sums
        host = self._host_sums = _roomy(self._cupy, self._host_sums, head + count)
        runtime, stream = self._cupy.cuda.runtime, self._cupy.cuda.get_current_stream()
        for start, size, address in ((0, head, self.step_address), (head, count, address_of(self._sums))):
            if size:
                runtime.memcpyAsync(host.ctypes.data + start, address, size, runtime.memcpyDeviceToHost, stream.ptr)
        stream.synchronize()
        nonfinite = int(host[:head].view(np.int64)[STEP_WORDS.index("nonfinite")])
        return host[head : head + count].view(np.float64).reshape(steps, self._n_sums).copy(), nonfinite

    def begun(self) -> int:
        """How many steps the device has begun; waits for them."""
        host, runtime = np.zeros(1, np.int64), self._cupy.cuda.runtime
        stream = self._cupy.cuda.get_current_stream()
        stream.synchronize()
        address = self.step_address + 8 * STEP_WORDS.index("next")
        runtime.memcpyAsync(host.ctypes.data, address, 8, runtime.memcpyDeviceToHost, stream.ptr)
        stream.synchronize()
        return int(host[0])

    def sums_of(self, s: int) -> Array:
        """The row of sums that step `s` of the job writes, on the device."""
        return self._sums[s * self._n_sums : (s + 1) * self._n_sums]

    def _place_tables(self, job: Job) -> dict[str, int]:
        """The numbers that each step has of its own, one table after the other; their addresses, 0 for what is None."""
        tables = {
            "learning_rates": (job.learning_rates, np.float64),
            "normalisers": (job.normalisers, np.float64),
            "first_rows": (job.first_rows, np.int64),
        }
        given = {name: pair for name, pair in tables.items() if pair[0] is not None}
        size = 8 * job.steps
        if size * len(given) > self._tables.size:
            self._tables = self._cupy.empty(2 * size * len(given), np.uint8)
        host = self._host_tables = _roomy(self._cupy, self._host_tables, size * len(given))
        places = dict.fromkeys(tables, 0)
        for i, (name, (table, dtype)) in enumerate(given.items()):
            host[i * size : (i + 1) * size].view(dtype)[:] = table
            places[name] = address_of(self._tables) + i * size
        self._copy_in(self._tables, host[: size * len(given)])
        return places

    def _place_order(self, order: Any) -> int:
        if order is None:
            return 0
        self._host_order = order = np.ascontiguousarray(order, np.int64)  # kept until the copy has been made
        if order.size > self._order.size:
            self._order = self._cupy.empty(order.size, np.int64)
        self._copy_in(self._order, order)
        return address_of(self._order)

    def _place_sums(self, steps: int) -> int:
        if steps * self._n_sums > self._sums.size:
            self._sums = self._cupy.empty(2 * steps * self._n_sums, np.float64)
        return address_of(self._sums)

    def _copy_in(self, target: Array, source: Any) -> None:
        if source.nbytes:
            runtime, stream = self._cupy.cuda.runtime, self._cupy.cuda.get_current_stream()
            kind = runtime.memcpyHostToDevice
            runtime.memcpyAsync(target.data.ptr, source.ctypes.data, source.nbytes, kind, stream.ptr)


def address_of(a: Array) -> int:
    return 0 if a is None else int(a.data.ptr)


def _pinned(cupy: Any, nbytes: int) -> np.ndarray[Any, Any]:
    """Page-locked host memory, which the device reads and writes while the host goes on."""
    return np.frombuffer(cupy.cuda.alloc_pinned_memory(max(nbytes, 1)), np.uint8, max(nbytes, 1))


def _roomy(cupy: Any, held: np.ndarray[Any, Any], nbytes: int) -> np.ndarray[Any, Any]:
    """Page-locked memory of at least so many bytes: what is held, or some with room to grow."""
    return held if held.size >= nbytes else _pinned(cupy, 2 * nbytes)
