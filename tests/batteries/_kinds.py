"""What an argument is like: how a right value of it is made, and by which faults a wrong one comes of that.

A `Kind` knows nothing of who takes the argument. Its faults make only what is certainly wrong there, whatever the other
arguments are, so all that is made of it must be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Draw", "Kind", "always", "changed", "one_of"]


class Draw(NamedTuple):
    """What the values of one case are drawn from. `right` holds the right values of all arguments."""

    rng: Any
    dtype: Any
    backend: str
    dims: Mapping[str, int]  # all different, from 2 on
    folder: Any
    right: dict[str, Any]

    def shape(self, symbols):
        return tuple(self.dims[s] for s in symbols)

    def numbers(self, shape, low=-1.0, high=1.0):
        return np.array(self.rng.uniform(low, high, shape), self.dtype)

    def place(self, a):
        """The index of any element."""
        return tuple(int(self.rng.integers(n)) for n in a.shape)


class Kind(NamedTuple):
    """`right(draw)` makes a value that is taken; each of `wrong` makes of it, by `fault(draw, value)`, one that is not.

    What is `optional` may be left out. What is `listed` may come as nested lists as well.
    """

    right: Callable[[Draw], Any]
    wrong: Mapping[str, Callable[[Draw, Any], Any]]
    optional: bool = False
    listed: bool = False

    def but(self, *names, **more):
        """The same kind without some faults, or with more."""
        assert set(names) <= set(self.wrong), names
        kept = {what: fault for what, fault in self.wrong.items() if what not in names}
        return self._replace(wrong=kept | {what.replace("_", " "): fault for what, fault in more.items()})

    def may_be_left_out(self):
        """None is right too."""
        kept = {what: fault for what, fault in self.wrong.items() if what != "None"}
        return self._replace(wrong=kept, optional=True)


def always(value):
    """A fault, or a right value, that is the same every time."""
    return lambda *_: value


def one_of(*values):
    """One of these, by the draw."""
    return lambda draw, *_: values[int(draw.rng.integers(len(values)))]


def changed(a, place, value):
    """A copy with one element that is another."""
    a = np.array(a)
    a[place] = value
    return a
