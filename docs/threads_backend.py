"""A backend for nnfast: the reference's kernels over pieces of their arrays, on several threads.

NumPy lets go of the interpreter while it computes, so two pieces really run side by side; and a piece that fits the
cache is not fetched from memory for every term of an equation.
"""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import nnfast as nn
from nnfast.protocol import OPS, num_threads

Reference = type(nn.get_backend("numpy"))


def cut_along(op):
    """The dimension along which an op may be cut: N (rows) or P (parameters), or None.

    Read from the signature: each output has that dimension first, or is a float64 total, which pieces can share out.
    """
    spec = OPS[op]
    letter = spec.args[0].shape[0]
    written = [arg for arg in spec.args if arg.role != "in"]
    fits = all(arg.shape[:1] == (letter,) or arg.shape == () for arg in written)
    needs_all = op in ("clip_by_global_norm", "dense")  # the norm of everything; a product, which BLAS cuts itself
    return letter if fits and not needs_all and letter in "NP" else None


@functools.cache
def pool(process, threads):
    """One pool per process: the threads of another do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="nnfast-threads")


def in_pieces(op, kernel, least):
    """The kernel, called once for each piece of at least `least` elements."""
    spec, letter = OPS[op], cut_along(op)

    @functools.wraps(kernel)  # its signature too, by which the parity kit knows the op
    def call(*arrays, **numbers):
        size, threads = len(arrays[0]), num_threads()
        count = min(size, arrays[0].size // least)  # from shapes alone, so that the same call gives the same bits
        bounds = [size * i // count for i in range(count + 1)] if count > 1 else [0, size]
        pieces = list(itertools.pairwise(bounds))
        totals = np.zeros((len(pieces), len(spec.args)))

        def run(i):
            lo, hi = pieces[i]
            mine = [
                None if a is None else totals[i, n, ...] if arg.shape == () else a[lo:hi] if letter in arg.shape else a
                for n, (arg, a) in enumerate(zip(spec.args, arrays, strict=True))
            ]
            moved = {name: numbers[name] + lo for name in ("first_row", "offset") if name in numbers}
            kernel(*mine, **numbers | moved)

        run_all = map if threads == 1 or len(pieces) == 1 else pool(os.getpid(), threads).map
        list(run_all(run, range(len(pieces))))  # a list, so that an error in a thread is raised here
        for n, (arg, a) in enumerate(zip(spec.args, arrays, strict=True)):
            if arg.shape == () and a is not None:
                a += totals[:, n].sum()

    call.__module__, call.__qualname__ = __name__, f"in_pieces.{op}"  # what model.backend_report() says
    return call


class ThreadsBackend(Reference):
    """NumPy on the CPU, large ops in pieces on several threads."""

    name = "threads"

    def __init__(self, least=131_072):
        split = {op: in_pieces(op, kernel, least) for op, kernel in Reference.kernels.items() if cut_along(op)}
        self.kernels = {**Reference.kernels, **split}
