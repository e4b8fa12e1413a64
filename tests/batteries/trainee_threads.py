"""What the processes of the battery of threads run: trainings at the same time, in threads of one process."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from small_models import WIDE_X, WIDE_Y, fit, wide

import nnfast as nn
from batteries.trainee import trained, trained_end


def alone(seeds):
    return [trained(seed) for seed in seeds]


def at_once(calls):
    """What each returns, called in a thread of its own when all of them are there."""
    met = threading.Barrier(len(calls))

    def call(function):
        met.wait()
        return function()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def together(seeds, repeats=1):
    return [end for _ in range(repeats) for end in at_once([partial(trained, seed) for seed in seeds])]


def pinned(seeds, repeats):
    """The same on one CPU."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return together(seeds, repeats)


def asked(threads, repeats):
    """Each time: how many answers of a model that all threads ask at once are not those that it gives to one."""
    model = wide()
    fit(model, WIDE_X, WIDE_Y)

    def answers(thread):
        some = slice(5 * thread, 60 + 8 * thread)  # each thread has rows of its own
        x, y = WIDE_X[some], WIDE_Y[some]
        loss, gradient = model.loss_and_gradient(x, y)
        outputs = model.predict(x), model.predict(x, batch_size=7 + thread)
        return [*(output.tobytes() for output in outputs), model.evaluate(x, y), loss, gradient.tobytes()]

    expected = [answers(thread) for thread in range(threads)]

    def ask(thread):
        return sum(found != right for found, right in zip(answers(thread), expected[thread], strict=True))

    return [sum(at_once([partial(ask, thread) for thread in range(threads)])) for _ in range(repeats)]


def trained_while_asked(threads, repeats):
    """Each time: the end of a training whose model is asked by other threads all the while."""

    def train(model, over):
        try:
            return trained_end(model)
        finally:
            over.set()

    def ask(model, over):
        while not over.is_set():
            model.predict(WIDE_X[:20])
            model.evaluate(WIDE_X[:30], WIDE_Y[:30])

    ends = []
    for _ in range(repeats):
        given = wide(rng=0), threading.Event()
        ends.append(at_once([partial(train, *given), *[partial(ask, *given)] * threads])[0])
    return ends


def fitted_twice(repeats):
    """Each time: what went wrong when two threads fitted one model at once. Each trains it whole, or is refused."""
    sys.setswitchinterval(1e-6)  # to be interrupted between any two instructions

    def attempt(model):
        try:
            fit(model, WIDE_X, WIDE_Y, epochs=3, batch_size=40)
        except nn.errors.StateError:
            return False
        return True

    def state(model):
        return model.parameters.tobytes(), model.optimizer.steps, model._epochs

    def wrong():
        model = wide()
        fits = sum(at_once([partial(attempt, model)] * 2))
        if not fits:
            return "both were refused"
        right = state(model) == after[fits]
        return "" if right else f"{fits} fits ended at step {model.optimizer.steps} with other bits than in one thread"

    model, after = wide(), {}
    for fits in (1, 2):
        assert attempt(model)
        after[fits] = state(model)
    return [wrong() for _ in range(repeats)]
