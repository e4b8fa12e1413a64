"""Kinds of settings: numbers, whole numbers, truth values, words, backends, seeds, names of files, functions."""

from __future__ import annotations

import numpy as np

from batteries._kinds import Kind, always, one_of

__all__ = [
    "BACKEND",
    "DTYPE",
    "FLAG",
    "MISSING",
    "RNG",
    "TARGET",
    "callable_like",
    "number",
    "objects",
    "whole",
    "word",
]

HUGE = (2**63, 2**64 + 1, 10**30, 10**400)

# What is no number, whatever range it may have.
_NO_NUMBER = {
    "text": always("1"),
    "bytes": always(b"1"),
    "None": always(None),
    "a truth value": one_of(True, False, np.True_),
    "complex": always(1j),
    "a list": lambda draw, x: [x],
    "a tuple": lambda draw, x: (x,),
    "a dictionary": lambda draw, x: {0: x},
    "a 0-d array": lambda draw, x: np.array(x),
    "an array": lambda draw, x: np.array([x, x]),
    "an object": lambda draw, x: object(),
    "a class": always(float),
    "NaN": one_of(float("nan"), np.float32("nan"), np.float64("nan")),
    "inf": one_of(float("inf"), np.float32("inf")),
    "-inf": one_of(float("-inf"), np.float64("-inf")),
    "a date": lambda draw, x: np.datetime64("2020-01-01"),
    "a time": lambda draw, x: np.timedelta64(1, "s"),
}


def number(low=None, high=None, low_open=False, high_open=False, right=None):
    """A finite number in a range."""

    def between(draw):
        if right is not None:
            return right
        start = -1.0 if low is None else float(low)
        end = start + 2.0 if high is None else float(high)
        return float(draw.rng.uniform(start + 0.1 * (end - start), end - 0.1 * (end - start)))

    faults = dict(_NO_NUMBER) | {"a number beyond all floats": one_of(10**400, -(10**400))}
    if low is not None:
        faults["too low"] = lambda draw, x: float(low - 10 ** draw.rng.uniform(-6, 6))
        faults["a whole number too low"] = lambda draw, x: int(np.floor(low)) - int(draw.rng.integers(1, 10**6))
    if high is not None:
        faults["too high"] = lambda draw, x: float(high + 10 ** draw.rng.uniform(-6, 6))
    if low_open:
        faults["the open end below"] = lambda draw, x: float(low)
    if high_open:
        faults["the open end above"] = lambda draw, x: float(high)
    return Kind(between, faults)


def whole(low=None, high=None, right=3):
    """A whole number in a range; one that has no limit must still fit into 64 bits."""
    faults = dict(_NO_NUMBER) | {
        "a float": lambda draw, n: float(n),
        "a float of NumPy": lambda draw, n: np.float32(n),
        "a half": lambda draw, n: n + 0.5,
    }
    if low is not None:
        faults["one too low"] = always(low - 1)
        faults["far too low"] = lambda draw, n: low - 1 - int(2 ** draw.rng.uniform(0, 70))
    if high is not None:
        faults["one too high"] = always(high + 1)
    faults["far too high"] = one_of(*(n for n in (*HUGE, 2**80) if high is None or n > high))
    return Kind(right if callable(right) else always(right), faults)


FLAG = Kind(
    one_of(True, False),
    {
        "1": always(1),
        "0": always(0),
        "1.0": always(1.0),
        "a word": one_of("yes", "no", "True", "False", ""),
        "None": always(None),
        "an empty list": lambda draw, x: [],
        "an array": lambda draw, x: np.array([True, False]),
        "a 0-d array": lambda draw, x: np.array(True),
        "an object": lambda draw, x: object(),
        "NaN": always(float("nan")),
    },
)


def word(*options):
    """One of a few words."""
    return Kind(
        one_of(*options),
        {
            "misspelt": lambda draw, w: w[:-1] + "_",
            "in capitals": lambda draw, w: w.upper(),
            "with a blank": lambda draw, w: w + " ",
            "empty": always(""),
            "None": always(None),
            "a number": one_of(3, 0.5, -1),
            "a truth value": one_of(True, False),
            "bytes": lambda draw, w: w.encode(),
            "in a list": lambda draw, w: [w],
            "in a dictionary": lambda draw, w: {w: w},
            "an array": lambda draw, w: np.array([1.0, 2.0]),
            "an array of words": lambda draw, w: np.array([w, w]),
            "an object": lambda draw, w: object(),
            "a class": always(str),
        },
    )


BACKEND = Kind(
    lambda draw: draw.backend,
    {
        "misspelt": one_of("nunpy", "Numpy", "numba ", "cuda", "numpy:0"),
        "empty": always(""),
        "a number": one_of(3, 1.5, 0),
        "a truth value": one_of(True, False),
        "bytes": always(b"numpy"),
        "a list": lambda draw, x: ["numpy"],
        "a tuple": always(("numpy",)),
        "a dictionary": lambda draw, x: {"numpy": 1},
        "an array": lambda draw, x: np.array(["numpy", "numba"]),
        "an object": lambda draw, x: object(),
        "a class": always(dict),
        "a function": always(len),
        "a module": always(np),
    },
)

DTYPE = Kind(
    lambda draw: str(draw.dtype),
    {
        "other floats": one_of("float16", np.float16, "longdouble", np.dtype(np.longdouble)),
        "whole numbers": one_of("int32", int, np.uint8, np.dtype(np.int64)),
        "complex": one_of("complex64", complex),
        "truth values": one_of(bool, "bool"),
        "objects": one_of("O", object),
        "text": one_of("U5", str),
        "dates": always("datetime64[s]"),
        "no dtype": one_of("float33", "single precision", ""),
        "a number": one_of(32, 3.5),
        "an array": lambda draw, x: np.zeros(3),
        "an object": lambda draw, x: object(),
        "a list": lambda draw, x: ["float32"],
        "a function": always(len),
    },
)

RNG = Kind(
    one_of(0, 7, np.int64(3)),
    {
        "negative": one_of(-1, -(2**70), np.int32(-5)),
        "a float": one_of(1.0, 0.5, np.float64(3)),
        "a truth value": one_of(True, False),
        "text": one_of("0", "seed", b"0"),
        "a list": lambda draw, x: [1, 2],
        "an array": lambda draw, x: np.array([1, 2]),
        "a 0-d array": lambda draw, x: np.array(1),
        "NaN": always(float("nan")),
        "a class": one_of(np.random.Generator, np.random.RandomState),
        "a module": lambda draw, x: np.random,
        "a bit generator": lambda draw, x: np.random.PCG64(0),
        "an object": lambda draw, x: object(),
        "complex": always(1j),
    },
)

# What names no file, to write to or to read from; and what cannot be read.
TARGET = Kind(
    lambda draw: str(draw.folder / "new.nnfast"),
    {
        "None": always(None),
        "a number": one_of(3, 1, 0, -1, 2.5),
        "a truth value": one_of(True, False),
        "empty": one_of("", b""),
        "a zero byte": one_of("a\0b", b"a\0b"),
        "a list": lambda draw, x: [x],
        "a dictionary": lambda draw, x: {"path": x},
        "an array": lambda draw, x: np.array([1.0]),
        "an object": lambda draw, x: object(),
        "a class": always(str),
    },
)
MISSING = {
    "a file that is not there": lambda draw, x: draw.folder / "nowhere" / "a.nnfast",
    "a folder": lambda draw, x: draw.folder,
    "another kind of file": lambda draw, x: draw.folder / "text.txt",
    "an empty file": lambda draw, x: draw.folder / "empty.nnfast",
    "half a file": lambda draw, x: draw.folder / "half.nnfast",
}


def objects(right, *, none=True, **more):
    """An object of some class, where anything else is wrong; `right(draw)` makes one."""
    faults = {
        "a number": one_of(3, 0.5, float("nan")),
        "a truth value": one_of(True, False),
        "text": one_of("text", "", b"bytes"),
        "a list": lambda draw, x: [1.0],
        "an array": lambda draw, x: np.ones((2, 2)),
        "a dictionary": lambda draw, x: {"a": 1},
        "an object": lambda draw, x: object(),
        "a module": always(np),
        "a class": always(dict),
    }
    if none:
        faults["None"] = always(None)
    return Kind(right, faults | {what.replace("_", " "): fault for what, fault in more.items()})


def callable_like(right, *, none=True, **more):
    """A function, where what cannot be called is wrong."""
    kind = objects(right, none=none, **more)
    return kind.but("a class")
