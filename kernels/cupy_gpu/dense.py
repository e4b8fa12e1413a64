"""Dense layers: N rows, I inputs, O outputs. The products are the library's; what surrounds them is one kernel each.

Forward, bias and activation take 8 bytes per element of y. Backward, the slopes and the bias gradient take 12 together,
or 4 where there is no slope.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .activations import backward, kind_of
from .emitter import ACCESS, MAX_BLOCKS, THREADS, Emitter, Product, Ref, Scalar

__all__ = ["dense", "dense_backward"]


def dense(e: Emitter, x: Ref, w: Ref, b: Ref, y: Ref, *, alpha: Scalar, activation: str) -> None:
    """y = act(x·w + b)"""
    if not y.size:
        return

    def joined(e: Emitter) -> None:
        e.product(Product(x, w, y, epilogue="bias", bias=b))

    def separate(e: Emitter) -> None:
        e.product(Product(x, w, y))
        kind = kind_of(activation)
        e.launch("nnf_bias_activation", e.span(y), y=y, b=b, n=y.size, outputs=y.shape[1], kind=kind, alpha=alpha)

    if activation == "linear" and x.shape[1]:
        e.either(joined, separate)
    else:
        separate(e)


def dense_backward(
    e: Emitter,
    x: Ref,
    w: Ref,
    y: Ref | None,
    dy: Ref,
    dz: Ref | None,
    dx: Ref | None,
    dw: Ref | None,
    db: Ref | None,
    *,
    alpha: Scalar,
    activation: str,
) -> None:
    """dz = dy·act'(y), dx = dz·wᵀ, dw = xᵀ·dz, db = Σₙ dz; what is None is not computed, and dz may be dy itself"""
    if not dy.size:
        for gradient in (dx, dw, db):
            if gradient is not None:
                e.zero(gradient)
        return
    changed = activation != "linear"
    if dz is None:
        dz = dy
    written = dz if changed or dz.address != dy.address else None

    def sums(e: Emitter) -> None:
        assert db is not None
        slopes(e, y if changed else None, dy, written, db, alpha, activation)

    def weights(e: Emitter) -> None:
        if dw is not None and dw.size:
            e.product(Product(x, dz, dw, transpose_a=True))

    def joined(e: Emitter) -> None:
        assert dw is not None
        e.product(Product(x, dz, dw, transpose_a=True, epilogue="bias_grad", bias=db))

    def separate(e: Emitter) -> None:
        sums(e)
        weights(e)

    if written is None and db is not None and dw is not None and dw.size:
        e.either(joined, separate)
    else:
        if db is not None:
            sums(e)
        elif written is not None:
            backward(e, activation, y if changed else None, dy, written, alpha)
        weights(e)
    if dx is not None and dx.size:
        e.product(Product(dz, w, dx, transpose_b=True))


class Tiling(NamedTuple):
    """How `nnf_dense_slopes` goes over (N, O) elements; the fields are those of its struct."""

    unit: int  # elements of one access
    rows: int
    width: int  # units per row
    rest: int
    lanes: int
    columns: int
    tiles: int
    chunk: int  # rows per block
    chunks: int  # blocks that share a tile's rows


def tiling(rows: int, outputs: int, pack: int) -> Tiling:
    """The tiling for a shape. It does not depend on where the arrays lie, so neither does the order of the sums."""
    period = outputs // math.gcd(outputs, pack)  # packs after which the columns are the same again
    if outputs % pack == 0 and period >= 8:  # 128 bytes of a row, 32 rows at once
        unit, width, lanes = pack, period, 8
    elif period <= 64:  # several rows of the layer one after the other
        unit, width, lanes = pack, period, period
    else:
        unit, width, lanes = 1, outputs, 32
    long_rows, rest = divmod(rows * outputs, width * unit)
    tiles = _over(width, lanes)
    at_once = THREADS // lanes
    passes = _over(long_rows, at_once)
    chunks = 1 if passes <= 8 else min(_over(passes, 4), max(MAX_BLOCKS // tiles, 1))
    chunk = _over(passes, chunks) * at_once
    chunks = max(_over(long_rows, chunk), 1) if chunk else 1
    return Tiling(unit, long_rows, width, rest, lanes, min(lanes * unit, outputs), tiles, chunk, chunks)


def _over(a: int, b: int) -> int:
    """a/b, rounded up."""
    return -(-a // b)


def slopes(
    e: Emitter, y: Ref | None, dy: Ref, dz: Ref | None, db: Ref, alpha: Scalar, activation: str = "linear"
) -> None:
    """Emit dz = dy·act'(y), where it is wanted, and db = Σₙ dz in one pass."""
    t = tiling(dy.shape[0], dy.shape[1], ACCESS // dy.itemsize)
    e.launch(
        "nnf_dense_slopes" if t.unit > 1 else "nnf_dense_slopes_scalar",
        (t.tiles, t.chunks),
        y=y,
        dy=dy,
        dz=dz,
        db=db,
        rows=t.rows,
        width=t.width,
        chunk=t.chunk,
        outputs=dy.shape[1],
        rest=t.rest,
        lanes=t.lanes,
        columns=t.columns,
        kind=kind_of(activation),
        alpha=alpha,
        scratch=(t.tiles * t.chunks * t.columns, t.tiles) if t.chunks > 1 else (0, 0),
    )
