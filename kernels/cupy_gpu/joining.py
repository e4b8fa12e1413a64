"""ReLU inside the products: where a training step may let cublasLt apply it, forward and backward.

A dense layer with ReLU and the dense layer after it, say A and B, joined:

    y_A = max(x·W_A + b_A, 0), and one bit per element: was it above 0?      "relu_aux_bias"
    dz_A = (dz_B·W_Bᵀ where the bit is set), db_A = Σₙ dz_A                  "drelu_bias_grad"

Separately, each line is a product and a kernel of our own. The library's ReLU makes 0 of NaN, so only steps that watch
for values that are not finite may use it: those that train.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from nnfast.protocol import Op

from . import dense
from .emitter import Emitter, Product, Ref

if TYPE_CHECKING:
    from nnfast.protocol import Program

__all__ = ["Pair", "backward", "forward", "joins", "mask_bytes", "pairs_of"]

ROW_BYTES = 16  # of a mask are a multiple of this: cublasLt wants 128 bits

RefOf = Callable[[Any], Any]


class Pair(NamedTuple):
    """A layer with ReLU, by the indices of its ops, and the backward op of the layer above, which makes its dy."""

    forward: int
    above: int
    backward: int
    width: int  # bytes of a row of its bits


def pairs_of(program: Program) -> list[Pair]:
    """What could be joined in a program. The two backward ops must be neighbours: nothing else may touch dy between."""
    if program.mode != "train":
        return []
    made = {op.args[3]: i for i, op in enumerate(program.ops) if op.name == "dense"}  # by output
    pairs = []
    for i, (above, own) in enumerate(zip(program.ops, program.ops[1:], strict=False)):
        if not (above.name == own.name == "dense_backward" and dict(own.attributes)["activation"] == "relu"):
            continue
        y, dy, dz, db = own.args[2], own.args[3], own.args[4], own.args[7]
        if above.args[5] is None or above.args[5] != dy or dz != dy or db is None or y not in made or y is None:
            continue
        width = -(-y.width // (8 * ROW_BYTES)) * ROW_BYTES
        pairs.append(Pair(made[y], i, i + 1, width))
    return pairs


def mask_bytes(program: Program, rows: int) -> int:
    """Device memory for the bits of all pairs."""
    return rows * sum(pair.width for pair in pairs_of(program))


def joins(e: Emitter, pair: Pair, program: Program, ref: RefOf, mask: Ref) -> bool:
    """Whether the two products of a pair are faster with the ReLU inside; nothing is emitted."""
    lower, above, own = (program.ops[i] for i in (pair.forward, pair.above, pair.backward))

    def joined(e: Emitter) -> None:
        forward(e, lower, ref, mask)
        _dx(e, above, own, ref, mask)

    def separate(e: Emitter) -> None:
        dense.dense(e, *map(ref, lower.args), alpha=0.0, activation="relu")
        _, w, _, _, dz, dx, _, _ = map(ref, above.args)
        dz = ref(above.args[3]) if dz is None else dz
        e.product(Product(dz, w, dx, transpose_b=True))
        _, _, y, dy, dz, _, _, db = map(ref, own.args)
        dense.slopes(e, y, dy, dz, db, 0.0, "relu")

    return e.prefers(joined, separate)


def forward(e: Emitter, op: Op, ref: RefOf, mask: Ref) -> None:
    """y = max(x·w + b, 0) and its bits."""
    x, w, b, y = map(ref, op.args)
    e.product(Product(x, w, y, epilogue="relu_aux_bias", bias=b, aux=mask))


def backward(
    e: Emitter, op: Op, ref: RefOf, *, own_done: bool, below: tuple[Op, Ref] | None, scalars: dict[str, Any]
) -> None:
    """A dense layer's backward op: its slopes are `own_done` where the layer above has made them; `below` is the layer
    whose slopes and bias gradient come with dx, and its bits."""
    x, w, y, dy, dz, dx, dw, db = map(ref, op.args)
    activation = dict(op.attributes)["activation"]
    if own_done:
        y, db, activation = None, None, "linear"
    dense.dense_backward(
        e, x, w, y, dy, dz, None if below else dx, dw, db, alpha=scalars["alpha"], activation=activation
    )
    if below:
        _dx(e, op, below[0], ref, below[1])


def _dx(e: Emitter, above: Op, own: Op, ref: RefOf, mask: Ref) -> None:
    _, w, _, dy, dz, dx, _, _ = map(ref, above.args)
    db = ref(own.args[7])
    e.product(Product(dy if dz is None else dz, w, dx, transpose_b=True, epilogue="drelu_bias_grad", bias=db, aux=mask))
