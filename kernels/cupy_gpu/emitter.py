"""From ops to launches: an op describes which kernels it needs on which addresses; who launches them is not its affair.

`Emitter` collects the calls of one op (called by hand) or of a whole step (a runner's). Nothing in here touches a GPU:
addresses are numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import sources

__all__ = [
    "ACCESS",
    "ALONE",
    "MAX_BLOCKS",
    "MOST_SHARED",
    "THREADS",
    "Apart",
    "At",
    "Call",
    "Emitter",
    "InRow",
    "Launch",
    "Policy",
    "Product",
    "Ref",
    "Scalar",
    "Separate",
    "Sum",
    "power_of_two",
    "signed",
]

MOST_SHARED = 96 << 10  # bytes of shared memory of a block; every GPU since compute capability 8.0 has them
THREADS = 256  # of a block, where a kernel has no reason for another number
ACCESS = 16  # bytes that a thread moves at once
MAX_BLOCKS = 1024  # of a grid that walks over its data, whatever the GPU: results must not depend on which one it is


class Ref(NamedTuple):
    """An array in device memory: C-contiguous, of this shape; dtype as NumPy writes it."""

    address: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return int(self.dtype[1:])


class At(NamedTuple):
    """A number that the kernel reads from device memory (a float64, or an int64 where it counts)."""

    address: int


class InRow(NamedTuple):
    """A sum (or a few) in the row of sums that the running step writes: `row` is where the row's address stands."""

    row: int
    column: int
    shape: tuple[int, ...] = ()


Scalar = float | At
Sum = Ref | InRow


class Launch(NamedTuple):
    """One kernel launch with all its arguments."""

    kernel: str
    blocks: tuple[int, int]
    shared: int
    args: np.ndarray[Any, Any]  # one record of the kernel's struct, or (models,) of them
    dtype: str  # the working type that it is compiled for


class Apart(NamedTuple):
    """How many models a product is for, and the bytes from what one model has of each array to what the next has."""

    models: int
    a: int
    b: int
    c: int
    bias: int
    aux: int


ALONE = Apart(1, 0, 0, 0, 0, 0)


class Product(NamedTuple):
    """c = op(a)·op(b), all row-major, with what the library may do in the same pass (`epilogue`):

    "bias"            c += bias along each row
    "relu_bias"       and then max(c, 0), which loses NaN
    "relu_aux_bias"   and keeps one bit per element of c in `aux`: c > 0
    "drelu_bias_grad" c is zeroed where the bit in `aux` is 0, and `bias` takes the column sums of the result
    "bias_grad"       `bias` takes the column sums of op(b)
    """

    a: Ref
    b: Ref
    c: Ref
    transpose_a: bool = False
    transpose_b: bool = False
    epilogue: str = ""
    bias: Ref | None = None
    aux: Ref | None = None
    apart: Apart = ALONE


Call = Launch | Product


class Policy(Protocol):
    """Decides what only a measurement can decide."""

    def joins(self, joined: Sequence[Call], separate: Sequence[Call]) -> bool:
        """Whether the same work runs faster as `joined` (products with epilogues) than as `separate`."""


class Separate:
    """The policy that joins nothing."""

    def joins(self, joined: Sequence[Call], separate: Sequence[Call]) -> bool:
        return False


class Emitter:
    """Collects the calls of ops in order. `dtype` is the working dtype.

    `most_shared` may differ between GPUs: how much of its data a kernel keeps in shared memory changes no result.
    """

    def __init__(self, dtype: Any, policy: Policy | None = None, most_shared: int = MOST_SHARED) -> None:
        self.dtype = np.dtype(dtype).str[1:]
        self.policy = policy or Separate()
        self.most_shared = most_shared  # bytes of shared memory that a block may have
        self.calls: list[Call] = []
        self.partials = 0  # float64 numbers and tickets of working memory that the largest call needs
        self.tickets = 0
        self._scratched: list[np.ndarray[Any, Any]] = []  # arguments that still need its address

    def launch(self, kernel: str, blocks: int | tuple[int, int], *, shared: int = 0, **fields: Any) -> None:
        """Emit one launch; `fields` are those of the kernel's struct, all of them."""
        source = sources.kernels()[kernel]
        layout = sources.struct_dtype(source.unit, source.struct, self.dtype)
        missing = set(layout.names or ()) - {"scratch"} ^ set(fields) - {"scratch"}
        if missing:
            raise TypeError(f"{kernel}: fields {sorted(missing)} are missing or unknown")
        args = np.zeros((), layout)
        for name, value in fields.items():
            if name == "scratch":
                self._scratch(args, *value)
            else:
                args[name] = _raw(value, layout[name])
        grid = blocks if isinstance(blocks, tuple) else (blocks, 1)
        if grid[0] and grid[1]:
            self.calls.append(Launch(kernel, grid, shared, args, self.dtype))

    def product(self, product: Product) -> None:
        """Emit a matrix product. One of inner size 0 is zeros, and an empty one nothing."""
        if not product.c.size:
            return
        if product.a.size:
            self.calls.append(product)
        else:
            self.zero(product.c)

    def either(self, joined: Callable[[Emitter], None], separate: Callable[[Emitter], None]) -> None:
        """Emit what `joined` or what `separate` emits, whichever the policy prefers."""
        (joined if self.prefers(joined, separate) else separate)(self)

    def prefers(self, joined: Callable[[Emitter], None], separate: Callable[[Emitter], None]) -> bool:
        """Whether the policy takes what `joined` emits rather than what `separate` does; neither is emitted."""
        return self.policy.joins(self._aside(joined), self._aside(separate))

    def _aside(self, emit: Callable[[Emitter], None]) -> list[Call]:
        before = self.calls
        self.calls = []
        try:
            emit(self)
            return self.calls
        finally:
            self.calls = before

    def zero(self, ref: Ref) -> None:
        """Emit the filling of an array with zeros."""
        self.launch("nnf_zero", self.span(ref), words=ref, n=ref.size * ref.itemsize // 4)

    def grid(self, work: int, per_block: int) -> int:
        """Blocks for so much work, if each takes `per_block` of it and those of a full grid take more."""
        return min(-(-work // per_block), MAX_BLOCKS)

    def span(self, ref: Ref) -> int:
        """Blocks for walking over an array, 16 bytes per thread and turn."""
        return self.grid(ref.size * ref.itemsize, THREADS * ACCESS)

    def _scratch(self, args: np.ndarray[Any, Any], partials: int, tickets: int) -> None:
        """Note that these arguments want so many partial sums and tickets."""
        self.partials, self.tickets = max(self.partials, partials), max(self.tickets, tickets)
        self._scratched.append(args)

    def place_scratch(self, partials: int, tickets: int) -> None:
        """Tell all calls where their working memory lies: the same for all, since they run one after the other."""
        for args in self._scratched:
            args["scratch"] = (partials, tickets)


def _raw(value: Any, kind: np.dtype[Any]) -> Any:
    """A field's value as it lies in the struct."""
    names = kind.names
    if names == ("at", "value"):  # Number, Count
        if isinstance(value, At):
            return (value.address, 0)
        return (0, signed(value) if kind["value"].kind == "i" else value)
    if names == ("at", "row", "column"):  # Total
        return (0, value.row, value.column) if isinstance(value, InRow) else (_address(value), 0, 0)
    return _address(value) if kind.kind == "u" and kind.itemsize == 8 else value


def signed(value: int) -> int:
    """The signed number with the bits of an unsigned one: a key has 64 bits."""
    return (int(value) + (1 << 63)) % (1 << 64) - (1 << 63)


def power_of_two(n: int) -> int:
    """The smallest that is not below n."""
    return 1 << (n - 1).bit_length()


def _address(value: Any) -> int:
    if value is None:
        return 0
    return value.address if isinstance(value, Ref) else int(value)
