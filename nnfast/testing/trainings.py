"""Whole trainings on trial: a backend beside the judge, its runner beside its own kernels, fused beside unfused.

Paths of training are chaotic: a last bit grows. So a step is compared from the same state, again and again; a run is
compared in float64, for as long as rounding stays small; and later only bands could be.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import nnfast as nn
from nnfast.errors import NonFiniteWarning
from nnfast.profiling.walking import walker
from nnfast.protocol import Array, Backend
from nnfast.testing.gradcheck import check_vjp
from nnfast.testing.models import Task
from nnfast.testing.parity import NONE, Error, assert_parity

__all__ = [
    "check_free_run",
    "check_fusion",
    "check_model_gradient",
    "check_noticed",
    "check_options",
    "check_outputs",
    "check_resynchronised",
    "check_runner",
]

FREE = 1e-9  # of float64 runs of a hundred steps, on losses and parameters of size one
CHANGE = {"Adam": 2e-2, "AdamW": 2e-2, "RMSprop": 2e-2, "Adagrad": 2e-2}  # see `check_resynchronised`
USUAL_CHANGE = 2e-5
EPS = float(np.finfo(np.float32).eps)
MOVES = 16  # times that the judge's rows are moved by a rounding, to see on which side of a kink they come to lie


def check_resynchronised(backend: Backend, judge: Backend, task: Task, steps: int = 1_000) -> Error:
    """float32, step by step, each from the judge's state: the changes of all parameters agree.

    The limit is a share of the largest change: 2e-5, about 160 roundings; 2e-2 where an optimizer divides gradients by
    their own size, since there small ones, which are mostly rounding, move parameters as far as large ones. Where the
    judge's own change goes farther when its rows and parameters move by a rounding, as at a kink of ReLU or where the
    terms of a gradient cancel, twice that is allowed.
    """
    model, tried, moved = (task.make(backend=b, dtype="float32") for b in (judge, backend, judge))
    limit = CHANGE.get(type(model.optimizer).__name__, USUAL_CHANGE)
    rng, worst = np.random.default_rng(1), NONE
    for i in range(steps):
        rows = rng.integers(0, len(task.X), task.batch_size)
        x, y = task.X[rows].astype(np.float32), task.y[rows]
        if i:
            _copy_state(model, tried)
        before = model.parameters.copy()
        slots = {name: slot.copy() for name, slot in model._buffers.slots.items()}
        a, b = model.train_on_batch(x, y), tried.train_on_batch(x, y)
        losses = np.float64(b["loss"]), np.float64(a["loss"])
        assert_parity(*losses, limit=1e-5 * abs(losses[1]) + 1e-6, name=f"{task.name}, step {i}: loss")
        change = float(np.abs(model.parameters - before).max())
        allowed = limit * change + EPS * np.abs(before)
        if not (np.abs(_host(tried) - model.parameters) <= allowed).all():
            own = [_change(moved, i, p, slots, rows, y) for p, rows in _moved_by_rounding(before, x)]
            spread = np.abs(own - (model.parameters - before)).max(axis=0)
            allowed = np.maximum(allowed, 2 * spread + EPS * np.abs(before))
        error = assert_parity(_host(tried), model.parameters, limit=allowed, name=f"{task.name}, step {i}: parameters")
        worst = max(worst, error, key=lambda e: e.share)
    return worst


def check_free_run(backend: Backend, judge: Backend, task: Task, epochs: int = 34) -> Error:
    """float64 from the same start, a hundred steps with a short batch in every epoch: losses and parameters agree."""
    got, want = (_fitted(task.make(backend=b, dtype="float64"), task, epochs) for b in (backend, judge))
    return _agree(got, want, task.name)


def check_options(backend: Backend, judge: Backend, task: Task, epochs: int = 10) -> Error:
    """float64, with what a run may have besides: sample weights, validation, `on_gradients`, several batches to an
    update."""
    weight = np.random.default_rng(2).uniform(0, 2, len(task.X))
    few = task.X[:40], task.y[:40], weight[:40]
    errors = []
    for accumulate in (1, 2):
        runs = []
        for b in (backend, judge):
            sizes: list[float] = []

            def halve(flat: Array, b: Backend = b, sizes: list[float] = sizes) -> None:
                sizes.append(float(np.abs(b.to_numpy(flat)).sum()))
                flat *= 0.5

            options = {"sample_weight": weight, "validation_data": few, "on_gradients": halve, "accumulate": accumulate}
            history, parameters = _fitted(task.make(backend=b, dtype="float64"), task, epochs, **options)
            runs.append((history | {"gradients": sizes}, parameters))
        errors.append(_agree(runs[0], runs[1], f"{task.name}, {accumulate} batches to an update"))
    return max(errors, key=lambda e: e.share)


def check_fusion(backend: Backend, judge: Backend, task: Task, epochs: int = 34) -> Error:
    """With activations inside the dense op before them, and as ops of their own; float64."""
    apart = task.make(backend=backend, dtype="float64")
    apart._programs.fuse = False
    joined = task.make(backend=backend, dtype="float64")
    return _agree(_fitted(joined, task, epochs), _fitted(apart, task, epochs), f"{task.name}, fused beside unfused")


def check_runner(backend: Backend, judge: Backend, task: Task, epochs: int = 34) -> Error:
    """Its compiled Program, and a walk over its kernels one after the other; float64."""
    walked = task.make(backend=backend, dtype="float64")
    compiled = walked._programs.runner

    def runner(mode: str, training: bool | None = None) -> tuple[Any, Any]:
        program, _ = compiled(mode, training)
        return program, walker(program, backend)

    walked._programs.runner = runner  # type: ignore[method-assign]
    whole = task.make(backend=backend, dtype="float64")
    return _agree(
        _fitted(whole, task, epochs), _fitted(walked, task, epochs), f"{task.name}, runner beside its kernels"
    )


def check_outputs(backend: Backend, judge: Backend, task: Task) -> Error:
    """`predict`, `evaluate` and the gradient of one batch in float64, on one parameter set."""
    a, b = (task.make(backend=x, dtype="float64") for x in (backend, judge))
    got, want = a.evaluate(task.X, task.y), b.evaluate(task.X, task.y)
    assert got.keys() == want.keys(), f"{task.name}: evaluate gives {sorted(got)}, expected {sorted(want)}"
    errors = [_close(np.float64(got[k]), np.float64(want[k]), f"{task.name}: {k}") for k in want]
    errors.append(_close(backend.to_numpy(a.predict(task.X)), b.predict(task.X), f"{task.name}: predictions"))
    gradients = [m.loss_and_gradient(task.X, task.y)[1] for m in (a, b)]
    errors.append(_close(backend.to_numpy(gradients[0]), gradients[1], f"{task.name}: gradient"))
    return max(errors, key=lambda e: e.share)


def check_model_gradient(backend: Backend, task: Task, rng: np.random.Generator) -> None:
    """The gradient of a whole model's loss against differences along a random direction; float64, no kinks."""
    model = task.make(backend=backend, dtype="float64")
    start = model.parameters.copy()

    def forward(p: Array) -> Array:
        model.parameters = p
        return np.float64(model.loss_and_gradient(task.X, task.y)[0])

    def backward(dy: Array, p: Array) -> list[Array]:
        model.parameters = p
        return [dy * backend.to_numpy(model.loss_and_gradient(task.X, task.y)[1])]

    check_vjp(forward, backward, [start], rng, rtol=1e-5)


def check_noticed(backend: Backend, judge: Backend, task: Task) -> Error:
    """An infinity in one row of the data is reported by the backend as by the judge, in float32."""
    x = task.X.astype(np.float32)
    x[len(x) // 2, 1] = np.inf
    said = []
    for b in (backend, judge):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task.make(backend=b, dtype="float32").fit(x, task.y, epochs=1, batch_size=task.batch_size, verbose=0)
        said.append([str(w.message) for w in caught if issubclass(w.category, NonFiniteWarning)])
    assert said[0] == said[1] != [], f"{task.name}: it reported {said[0]}, expected {said[1]}"
    return NONE


CHECKS: dict[str, Callable[[Backend, Backend, Task], Error]] = {
    "steps": check_resynchronised,
    "float64 run": check_free_run,
    "options": check_options,
    "fused": check_fusion,
    "runner": check_runner,
    "outputs": check_outputs,
    "not finite": check_noticed,
}


def _fitted(model: nn.Model, task: Task, epochs: int, **options: Any) -> tuple[dict[str, Any], Array]:
    history = model.fit(task.X, task.y, epochs=epochs, batch_size=task.batch_size, verbose=0, **options).history
    return history, _host(model)


def _agree(got: tuple[dict[str, Any], Array], want: tuple[dict[str, Any], Array], name: str) -> Error:
    assert got[0].keys() == want[0].keys(), f"{name}: the history has {sorted(got[0])}, expected {sorted(want[0])}"
    errors = [_close(np.array(got[0][k]), np.array(want[0][k]), f"{name}: {k}") for k in want[0]]
    return max([*errors, _close(got[1], want[1], f"{name}: parameters")], key=lambda e: e.share)


def _close(got: Any, want: Any, name: str) -> Error:
    return assert_parity(got, want, limit=FREE * (1 + np.abs(want)), name=name)


def _host(model: nn.Model) -> Array:
    return model.backend.to_numpy(model._buffers.parameters).copy()


def _moved_by_rounding(*arrays: Array) -> Iterator[list[Array]]:
    """The arrays again and again, each number by up to a rounding larger or smaller."""
    rng = np.random.default_rng(2)
    for _ in range(MOVES):
        yield [(a * (1 + EPS * rng.uniform(-1, 1, a.shape))).astype(np.float32) for a in arrays]


def _change(model: nn.Model, steps: int, parameters: Array, slots: dict[str, Array], x: Array, y: Array) -> Array:
    """The change of the model's parameters in a step from this state."""
    model._programs.runner("train")  # makes the slots
    model.parameters = parameters
    for name, slot in slots.items():
        model._buffers.slots[name][...] = slot
    assert model.optimizer is not None
    model.optimizer.steps = steps
    model.train_on_batch(x, y)
    return np.array(model.parameters - parameters)


def _copy_state(source: nn.Model, target: nn.Model) -> None:
    """The judge's parameters and optimizer state, into the model on trial."""
    target.parameters = source.parameters
    for name, slot in source._buffers.slots.items():
        target._buffers.slots[name][...] = target.backend.asarray(slot)
