"""Our own kernels as a share of the bandwidth that a large copy reaches in the same process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from gpu_parts.clock import Replay, interleaved, spread
from gpu_parts.probe import limits
from gpu_parts.section import Section
from gpu_parts.stand import Stand

__all__ = ["kernels"]

COLD = 256 << 20  # bytes that pass before a buffer's turn comes again: several times the L2 cache
MOST_SETS = 200
ADAM = {"learning_rate": 1e-3, "step": 10, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "weight_decay": 0.0}
DROPOUT = {"rate": 0.1, "key": 7, "step": 3, "layer": 1, "first_row": 0}


class Kernel(NamedTuple):
    """A kernel at one size: the bytes that it must read and write, what makes a set of its arrays, how it is called."""

    name: str
    nbytes: int
    arrays: Callable[[], list[Any]]
    bind: Callable[[list[Any]], Callable[[], None]]


def kernels(section: Section, stand: Stand) -> None:
    with stand.stream():
        found = section.step("limits", limits, stand)
        copy = found["copy"]["best"] if found else math.nan
        for kernel in _kernels(stand):
            section.step(kernel.name, _measure, stand, kernel, copy)
            stand.cupy.get_default_memory_pool().free_all_blocks()


def _measure(stand: Stand, kernel: Kernel, copy: float) -> dict[str, Any]:
    """Microseconds on memory that is not in the cache, and on the same again and again; the share of the copy."""
    sets = min(MOST_SETS, max(2, math.ceil(COLD / kernel.nbytes))) if not stand.simulated else 2
    works = [kernel.bind(kernel.arrays()) for _ in range(sets)]
    replays = {"cold": Replay(stand.cupy, works), "warm": Replay(stand.cupy, works[:1], 10)}
    times = interleaved({name: replay.seconds for name, replay in replays.items()})
    found: dict[str, Any] = {"bytes": kernel.nbytes, "sets": sets, "captured": replays["cold"].captured}
    for name, seconds in times.items():
        found[name] = {
            "microseconds": spread([s * 1e6 for s in seconds]),
            "of the copy": spread([kernel.nbytes / s / copy for s in seconds]),
        }
    return found


def _kernels(stand: Stand) -> Iterator[Kernel]:
    tiny = stand.simulated
    for p in (1000,) if tiny else (10**5, 10**6, 10**7, 10**8):
        yield _op(stand, f"Adam, {p:,} parameters", 28 * p, "adam_step", [(p,)] * 4, ADAM)
    p = 1000 if tiny else 10**7
    sgd = {"learning_rate": 1e-3, "momentum": 0.9, "nesterov": False}
    yield _op(stand, f"SGD with momentum, {p:,} parameters", 20 * p, "sgd_step", [(p,)] * 3, sgd)
    for n, o in ((6, 10),) if tiny else ((128, 10), (4096, 1000), (8192, 32000)):
        yield _cross_entropy(stand, n, o)
    n, o = (6, 20) if tiny else (8192, 4096)
    x, w, b, size = (n, 1), (1, o), (o,), n * o  # the products are left out, so any input will do
    relu = {"alpha": 0.0, "activation": "relu"}
    yield _op(stand, f"bias + ReLU, {n}x{o}", 8 * size, "dense", [x, w, b, (n, o)], relu)
    backward = [x, w, (n, o), (n, o), (n, o), None, None, b]
    yield _op(stand, f"slopes of ReLU + bias gradient, {n}x{o}", 12 * size, "dense_backward", backward, relu)
    linear = {"alpha": 0.0, "activation": "linear"}
    sums = [x, w, None, (n, o), None, None, None, b]
    yield _op(stand, f"bias gradient, {n}x{o}", 4 * size, "dense_backward", sums, linear)
    yield _op(stand, f"dropout, {n}x{o}", 8 * size, "dropout", [(n, o)] * 2, DROPOUT)
    yield _op(stand, f"dropout backward, {n}x{o}", 8 * size, "dropout_backward", [(n, o)] * 2, DROPOUT)
    yield _op(stand, f"GELU, {n}x{o}", 8 * size, "gelu", [(n, o)] * 2, {})
    yield _op(stand, f"softmax, {n}x{o}", 8 * size, "softmax", [(n, o)] * 2, {})
    mse = [(n, o), (n, o), None, (), (n, o), None]
    yield _op(stand, f"squared error with gradient, {n}x{o}", 12 * size, "mean_squared_error", mse, {"normaliser": n})
    yield _gather(stand, *((6, 5, 12) if tiny else (8192, 784, 60_000)))


def _random(stand: Stand, shape: tuple[int, ...]) -> Any:
    """Numbers that are neither all equal nor worth waiting for."""
    some = np.random.default_rng(0).random(min(math.prod(shape), 1 << 16), np.float32) + np.float32(0.01)
    flat = stand.cupy.empty(math.prod(shape), np.float32)
    for lo in range(0, flat.size, 1 << 26):  # by doubling where it is long: copies on the device
        part = flat[lo : lo + (1 << 26)]
        have = min(some.size, part.size)
        part[:have] = stand.cupy.asarray(some[:have])
        while have < part.size:
            more = min(have, part.size - have)
            part[have : have + more] = part[:more]
            have += more
    return flat.reshape(shape)


def _op(stand: Stand, name: str, nbytes: int, op: str, shapes: list[Any], numbers: dict[str, Any]) -> Kernel:
    """An op by the shapes of its arrays; () is a sum in float64."""

    def arrays() -> list[Any]:
        return [
            None if s is None else stand.cupy.zeros((), np.float64) if s == () else _random(stand, s) for s in shapes
        ]

    return Kernel(name, nbytes, arrays, lambda made: stand.launches(op, made, **numbers))


def _cross_entropy(stand: Stand, n: int, o: int) -> Kernel:
    def arrays() -> list[Any]:
        labels = stand.cupy.asarray(np.arange(n, dtype=np.int64) * 7 % o)
        return [_random(stand, (n, o)), labels, None, stand.cupy.zeros((), np.float64), _random(stand, (n, o)), None]

    numbers = {"normaliser": float(n), "label_smoothing": 0.0}
    bind = lambda made: stand.launches("softmax_cross_entropy", made, **numbers)  # noqa: E731
    return Kernel(f"softmax cross-entropy with gradient, {n}x{o}", 8 * n * o + 8 * n, arrays, bind)


def _gather(stand: Stand, rows: int, width: int, of: int) -> Kernel:
    """A batch of shuffled rows with their labels, as a step begins with it."""
    gather, emitting, binding = stand.part("gather"), stand.part("emitter"), stand.part("binding")

    def arrays() -> list[Any]:
        order = np.random.default_rng(0).permutation(of).astype(np.int64)
        host = {"x": _random(stand, (of, width)), "labels": stand.cupy.zeros(of, np.int64)}
        host |= {"order": stand.cupy.asarray(order), "sums": stand.cupy.zeros(1, np.float64)}
        job = np.zeros((), gather.job_layout())
        for name, array in host.items():
            job[name] = array.data.ptr
        # An epoch of one batch and no rows: every step takes the first `rows` of the order.
        job["rows"], job["batch_size"], job["batches"], job["steps"] = 0, rows, 1, 1 << 30
        job["first_step"], job["n_sums"] = 1, 0
        step = np.zeros((), gather.step_layout())
        control = [stand.cupy.asarray(np.frombuffer(record.tobytes(), np.uint8)) for record in (job, step)]
        batch = [stand.cupy.zeros((rows, width), np.float32), stand.cupy.zeros(rows, np.int64)]
        return [*control, *batch, host]

    def bind(made: list[Any]) -> Callable[[], None]:
        job, step, x, y, _ = made
        emitter = emitting.Emitter(np.float32)
        refs = map(binding.ref_of, (x, y))
        gather.begin_step(emitter, int(job.data.ptr), int(step.data.ptr), *refs, None, rows=rows)
        return stand._bound(emitter, emitter.calls, made)

    return Kernel(f"gather, {rows}x{width} of {of:,} rows", 8 * rows * width + 24 * rows, arrays, bind)
