"""Kinds of arrays: rows, labels, targets, sample weights, and arrays that are changed in place."""

from __future__ import annotations

import numpy as np

from batteries._kinds import Kind, always, changed

__all__ = ["NO_NUMBERS", "in_place", "labels", "real", "targets", "weights"]


class OnDevice:
    """What looks like an array on a GPU and is none that a backend of the CPU can take."""

    def __init__(self, shape):
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (0, False), "version": 3}


def _fields(draw, a):
    return np.zeros(np.shape(a), [("x", "f4"), ("y", "f4")])


# What is no array of real numbers, wherever an array is due.
NO_NUMBERS = {
    "None": always(None),
    "a word": always("text"),
    "a number of dictionaries": lambda draw, a: {"x": a},
    "a set": always({1.0, 2.0}),
    "a function": always(len),
    "a class": always(np.ndarray),
    "an object": lambda draw, a: object(),
    "a generator": lambda draw, a: (x for x in np.ravel(a)),
    "rows of different lengths": always([[1.0], [1.0, 2.0]]),
    "words in lists": always([["a", "b"], ["c", "d"]]),
    "complex": lambda draw, a: np.asarray(a) + 1j,
    "objects": lambda draw, a: np.asarray(a).astype(object),
    "text": lambda draw, a: np.asarray(a).astype(str),
    "bytes": lambda draw, a: np.asarray(a).astype("S8"),
    "dates": lambda draw, a: np.zeros(np.shape(a), "datetime64[s]"),
    "times": lambda draw, a: np.zeros(np.shape(a), "timedelta64[ms]"),
    "fields": _fields,
    "masked": lambda draw, a: np.ma.masked_array(a, np.zeros(np.shape(a), bool)),
    "on a device": lambda draw, a: OnDevice(np.shape(a)),
}


def _ranks(symbols):
    """As many dimensions as are not right."""
    faults = {
        "0-d": lambda draw, a: np.array(a.flat[0]),
        "a plain number": lambda draw, a: float(a.flat[0]),
        "a dimension more before": lambda draw, a: a[None],
        "a dimension more after": lambda draw, a: a[..., None],
    }
    if len(symbols) == 2:
        faults["one column"] = lambda draw, a: a[:, 0].copy()
        faults["one row"] = lambda draw, a: a[0].copy()
        faults["in one row"] = lambda draw, a: a.reshape(-1)
        faults["four dimensions"] = lambda draw, a: a[None, None]
    return faults


def _sizes(symbols, fixed, empty):
    """Another size of a dimension that other arguments have fixed, and 0 where there must be something."""
    faults = {}
    for axis, symbol in enumerate(symbols):
        if symbol in fixed:
            faults[f"{symbol} one more"] = lambda draw, a, axis=axis: np.repeat(
                a, [2] + [1] * (a.shape[axis] - 1), axis
            )
            faults[f"{symbol} one less"] = lambda draw, a, axis=axis: np.delete(
                a, draw.rng.integers(a.shape[axis]), axis
            )
            faults[f"{symbol} twice"] = lambda draw, a, axis=axis: np.concatenate([a, a], axis)
        if symbol != "N" or symbol in fixed or not empty:
            faults[f"{symbol} = 0"] = lambda draw, a, axis=axis: np.take(a, [], axis)
    if len(symbols) == 2 and set(symbols) <= set(fixed):
        faults["transposed"] = lambda draw, a: a.T
    return faults


def real(*symbols, fixed="", empty=False, floats=False, beside=False):
    """Real numbers of the shape of these symbols.

    fixed    the symbols whose size the other arguments know
    empty    N may be 0
    floats   only float32 and float64 are taken, no other floats
    beside   another array of floats stands beside it, of the same dtype
    """
    faults = NO_NUMBERS | _ranks(symbols) | _sizes(symbols, fixed, empty)
    if floats:
        faults["float16"] = lambda draw, a: a.astype(np.float16)
        if np.dtype(np.longdouble) != np.float64:
            faults["long floats"] = lambda draw, a: a.astype(np.longdouble)
    if beside:
        faults["other floats than beside it"] = lambda draw, a: a.astype(_other(draw.dtype))
    return Kind(lambda draw: draw.numbers(draw.shape(symbols)), faults, listed=True)


def _other(dtype):
    return np.float32 if dtype == np.float64 else np.float64


# ---- what stands beside the output ----------------------------------------------------------------------------------


def labels(rows="N", classes="O"):
    """Class numbers, or rows that sum to 1."""

    def numbers(draw, dtype=np.int64):
        return draw.rng.integers(0, draw.dims[classes], draw.dims[rows]).astype(dtype)

    def shares(draw, dtype=np.float64):
        return draw.rng.dirichlet(np.ones(draw.dims[classes]), draw.dims[rows]).astype(dtype)

    def right(draw):
        sort = ["int64", "uint8", "int32", "float32", "float64"][int(draw.rng.integers(5))]
        return shares(draw, sort) if sort.startswith("float") else numbers(draw, sort)

    def number(value, dtype=np.int64):
        return lambda draw, _: changed(numbers(draw, dtype), int(draw.rng.integers(draw.dims[rows])), value(draw))

    def share(value):
        def fault(draw, _):
            a = shares(draw)
            return changed(a, draw.place(a), value)

        return fault

    faults = {what: (lambda draw, _, fault=fault: fault(draw, numbers(draw))) for what, fault in NO_NUMBERS.items()}
    faults |= {
        "one label more": lambda draw, _: np.append(numbers(draw), 0),
        "one label less": lambda draw, _: numbers(draw)[1:],
        "no labels": lambda draw, _: numbers(draw)[:0],
        "no rows of labels": lambda draw, _: shares(draw)[:0],
        "a column": lambda draw, _: numbers(draw)[:, None],
        "in one row": lambda draw, _: numbers(draw)[None],
        "a plain number": always(1),
        "three dimensions": lambda draw, _: shares(draw)[..., None],
        "a label too large by one": number(lambda draw: draw.dims[classes]),
        "a huge label": number(lambda draw: int(2 ** draw.rng.uniform(20, 62))),
        "a label beyond int64": number(lambda draw: 2**63 + int(draw.rng.integers(2**62)), np.uint64),
        "a label of -1": number(lambda draw: -1),
        "a very negative label": number(lambda draw: -int(2 ** draw.rng.uniform(1, 62))),
        "a small negative label": number(lambda draw: -int(draw.rng.integers(1, 120)), np.int8),
        "labels as floats": lambda draw, _: numbers(draw, np.float64),
        "labels as float32": lambda draw, _: numbers(draw, np.float32) + np.float32(0.25),
        "a label of NaN": number(lambda draw: np.nan, np.float64),
        "an infinite label": number(lambda draw: np.inf, np.float64),
        "rows one wider": lambda draw, _: np.c_[shares(draw), np.zeros(draw.dims[rows])],
        "rows one narrower": lambda draw, _: shares(draw)[:, 1:],
        "one row more": lambda draw, _: np.r_[shares(draw), shares(draw)[:1]],
        "rows transposed": lambda draw, _: shares(draw).T,
        "rows that sum to 2": lambda draw, _: 2 * shares(draw),
        "a row that sums to 0": lambda draw, _: changed(shares(draw), int(draw.rng.integers(draw.dims[rows])), 0),
        "a negative share": share(-0.25),
        "a share of NaN": share(np.nan),
        "an infinite share": share(np.inf),
    }
    return Kind(right, faults)


def targets(*symbols, low=None, high=None, floats=False):
    """Rows like the output, finite and within the bounds."""
    start, end = (-1.0 if low is None else low), (1.0 if high is None else high)

    def element(value):
        return lambda draw, a: changed(a, draw.place(a), value(draw))

    faults = NO_NUMBERS | _ranks(symbols) | _sizes(symbols, "".join(symbols), False)
    faults |= {"NaN": element(lambda draw: np.nan), "inf": element(lambda draw: np.inf)}
    faults["-inf"] = element(lambda draw: -np.inf)
    if low is not None:
        faults["too low"] = element(lambda draw: low - 10 ** draw.rng.uniform(-3, 3))
    if high is not None:
        faults["too high"] = element(lambda draw: high + 10 ** draw.rng.uniform(-3, 3))
    return Kind(lambda draw: draw.numbers(draw.shape(symbols), start, end), faults, listed=True)


def weights(rows="N"):
    """Sample weights; None is right."""

    def element(value):
        return lambda draw, a: changed(a, draw.place(a), value(draw))

    faults = NO_NUMBERS | _ranks((rows,)) | _sizes((rows,), rows, False)
    faults |= {
        "NaN": element(lambda draw: np.nan),
        "inf": element(lambda draw: np.inf),
        "negative": element(lambda draw: -(10 ** draw.rng.uniform(-6, 6))),
        "all zero": lambda draw, a: np.zeros_like(a),
    }
    return Kind(lambda draw: draw.numbers((draw.dims[rows],), 0.1, 2), faults, listed=True).may_be_left_out()


# ---- what is changed in place ---------------------------------------------------------------------------------------


def in_place(*symbols, others=(), double=False, low=-1.0):
    """An array that the call writes to. `others` are the arguments that must not share memory with it.

    With `double` it is float64 whatever else is; values begin at `low`.
    """

    def right(draw):
        a = draw.numbers(draw.shape(symbols), low)
        return a.astype(np.float64) if double else a

    faults = {what: fault for what, fault in NO_NUMBERS.items() if what != "rows of different lengths"}
    faults |= {
        "rows of different lengths": always([[1.0], [1.0, 2.0]]),
        "a list": lambda draw, a: a.tolist(),
        "a memoryview": lambda draw, a: memoryview(a),
        "integers": lambda draw, a: a.astype(np.int64),
        "float16": lambda draw, a: a.astype(np.float16),
        "read-only": _read_only,
        "elements that share memory": lambda draw, a: np.lib.stride_tricks.as_strided(
            a[:1].copy(), a.shape, [0] * a.ndim
        ),
        "0-d": lambda draw, a: np.array(a.flat[0]),
    }
    if double:
        faults["float32"] = lambda draw, a: a.astype(np.float32)
    if others and not double:
        faults["other floats than beside it"] = lambda draw, a: a.astype(_other(a.dtype))
        faults["one more"] = lambda draw, a: np.concatenate([a, a[:1]])
        faults["one less"] = lambda draw, a: a[1:].copy()
        faults["a dimension more"] = lambda draw, a: a[..., None].copy()
    for other in others:
        faults[f"the array of {other}"] = lambda draw, a, other=other: draw.right[other]
        faults[f"backwards in the array of {other}"] = lambda draw, a, other=other: draw.right[other][::-1]
    return Kind(right, faults)


def _read_only(draw, a):
    a = a.copy()
    a.flags.writeable = False
    return a
