"""A program on a backend beside the reference, step by step, each from the reference's state, in float32."""

from __future__ import annotations

import numpy as np

import nnfast as nn
from nnfast.testing import assert_parity
from nnfast.testing.models import Task
from nnfast.testing.parity import NONE, Error
from nnfast.testing.trainings import CHANGE, USUAL_CHANGE

__all__ = ["check_search", "check_steps"]

SAME_LOSS = 2e-6  # of losses of size one
EPS = float(np.finfo(np.float32).eps)
AT_KINKS = 0.1  # of the steps at most
AT_MINIMA = 2.5  # times the kit's share, for Adam on the sine: its gradients are then smaller than a rounding of 1


def check_steps(tried, judge, task: Task, steps: int) -> Error:
    """Steps of the program itself, on its whole set: all changes agree, to a share of the largest one.

    That share is larger where an optimizer divides gradients by their own size, as in `nnfast.testing.trainings`. Near
    a minimum the parts of the rows, of sizes up to 1, cancel: a gradient is known to a rounding of 1 and no better.

    Where the input of a ReLU is 0 to rounding, it may be open on one side and shut on the other, and a whole row's part
    of a gradient is there or not. Such a step may differ in its parameters. There must be few of them.
    """
    a, b = (task.make(backend=backend, dtype="float32") for backend in (judge, tried))
    adaptive = CHANGE.get(type(a.optimizer).__name__)
    share = USUAL_CHANGE if adaptive is None else AT_MINIMA * adaptive
    worst, kinks = NONE, 0
    for i in range(steps):
        if i:
            _copy_state(a, b)
        before, rate = a.parameters.copy(), a.optimizer.current_learning_rate
        want, got = (np.float64(model.train_on_batch(task.X, task.y)["loss"]) for model in (a, b))
        assert_parity(got, want, limit=1e-5 * abs(want) + 1e-6, name=f"step {i}: loss")
        allowed = share * float(np.abs(a.parameters - before).max()) + EPS * (np.abs(before) + rate)
        try:
            error = assert_parity(b.parameters, a.parameters, limit=allowed, name=f"step {i}: parameters")
        except AssertionError:
            if not _at_a_kink(task, judge, before):
                raise
            kinks += 1
            continue
        worst = max(worst, error, key=lambda e: e.share)
    assert kinks <= AT_KINKS * steps, f"{kinks} of {steps} steps differ where the input of a ReLU is nearly 0"
    return worst


def _copy_state(source, target) -> None:
    target.parameters = source.parameters
    for name, slot in source._buffers.slots.items():
        target._buffers.slots[name][...] = slot


def _at_a_kink(task: Task, judge, parameters) -> bool:
    """Whether rounding, as limited for Dense, can change the sign of an input of a ReLU."""
    model = task.make(backend=judge, dtype="float32")
    model.parameters = parameters
    x = np.asarray(task.X, np.float32).astype(np.float64)
    error = np.zeros_like(x)
    for layer in model.layers:
        if isinstance(layer, nn.Dense):
            w, bias = (np.asarray(array, np.float64) for array in (layer.weights, layer.biases))
            sizes = np.abs(x) @ np.abs(w) + np.abs(bias)
            error = error @ np.abs(w) + (4 + len(w) / 128) * EPS * sizes
            x = x @ w + bias
        elif isinstance(layer, nn.ReLU):
            if (np.abs(x) < error).any():
                return True
            error, x = np.where(x > 0, error, 0), np.maximum(x, 0)
    return False


def check_search(tried, judge, task: Task, steps: int) -> Error:
    """Each candidate from the reference's best: the same ones are kept.

    Where a candidate's loss is that of the best to rounding, one may keep it and the other not.
    """
    a, b = (task.make(backend=backend, dtype="float32") for backend in (judge, tried))
    best, worst = a.evaluate(task.X, task.y)["loss"], NONE
    for i in range(steps):
        b.parameters = a.parameters
        before = a.parameters.copy()
        want, got = (model.fit(task.X, task.y, epochs=1, verbose=0).history["loss"][-1] for model in (a, b))
        errors = [assert_parity(np.float64(got), np.float64(want), limit=SAME_LOSS, name=f"candidate {i}: best loss")]
        kept = [bool((model.parameters != before).any()) for model in (a, b)]
        if kept[0] == kept[1] or best - min(want, got) > SAME_LOSS:
            limit = 8 * EPS * (np.abs(before) + a.optimizer.scale)
            errors.append(assert_parity(b.parameters, a.parameters, limit=limit, name=f"candidate {i}: the best"))
        worst, best = max([worst, *errors], key=lambda e: e.share), want
    return worst
