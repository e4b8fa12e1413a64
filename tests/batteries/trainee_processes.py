"""What the processes of the battery of threads run: trainings in children, forked or started anew."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import threading
import time
import traceback
from functools import partial

from small_models import WIDE_X

from batteries.trainee import trained, watch
from batteries.trainee_threads import at_once


def in_fork(function):
    """What the function returns in a forked child; of one that does not answer, how it ended."""
    faulthandler.cancel_dump_traceback_later()  # the child would wait for the watchdog's thread, which it has not
    read, write = os.pipe()
    child = os.fork()
    watch()
    if not child:
        try:
            os.write(write, function().encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or f"no answer, exit status {status}"


def forks(when, children):
    """Ends of trainings in children that are forked after the import, after a kernel ran, or while another trains.

    In the last case also those of the trainings meanwhile, which should be one more end in all. Nothing is imported
    meanwhile: Python's lock of a module that another thread imports is never released in the child.
    """
    if when != "after the import":
        trained(1)
    if when == "while another thread trains":
        return forks_aside(children)
    return [in_fork(partial(trained, 0)) for _ in range(children)]


def forks_aside(children):
    over, aside, ends = threading.Event(), [], []

    def train():
        while not (over.is_set() and aside):
            aside.append(trained(0))

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(children):
            time.sleep(random.uniform(0, 0.05))
            ends.append(in_fork(partial(trained, 0)))
    finally:
        over.set()
        thread.join()
    return [*ends, *set(aside)]


def processes(method, children):
    """Ends of trainings in children that `multiprocessing` starts, four at a time."""
    context, ends = multiprocessing.get_context(method), []
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    while len(ends) < children:
        started = [start(context) for _ in range(min(4, children - len(ends)))]
        ends += [answer_of(*pair) for pair in started]
    return ends


def start(context):
    mine, other = context.Pipe(duplex=False)
    process = context.Process(target=answer, args=(other,))
    process.start()
    other.close()
    return mine, process


def answer(pipe):
    watch()
    pipe.send(trained(0))


def answer_of(pipe, process):
    try:
        return pipe.recv()
    except EOFError:
        return f"no answer, exit status {process.exitcode}"
    finally:
        process.join()


def beside_numba(children, seeds):
    """Numba's layer, and the ends of trainings and of forks beside a parallel kernel, which starts Numba's threads."""
    import numba
    import numpy as np

    @numba.njit(parallel=True)
    def doubled(x):
        y = np.empty_like(x)
        for i in numba.prange(len(x)):
            y[i] = 2 * x[i]
        return y

    try:
        doubled(WIDE_X[0])
    except ValueError:  # no such layer is installed
        return "missing"

    def many():
        for _ in range(200):
            assert (doubled(WIDE_X[0]) == 2 * WIDE_X[0]).all()

    ends = at_once([*(partial(trained, seed) for seed in seeds), many])[:-1]
    return [numba.threading_layer(), *ends, *forks_aside(children)]
