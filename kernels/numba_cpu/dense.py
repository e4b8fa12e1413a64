"""Dense layers: N rows, I inputs, O outputs. Products by tiles in registers, all else in one pass over the batch.

Forward: bias and ReLU are part of the product, other activations follow in place. Backward: one pass makes dz and the
bias gradient (rows are summed in the working dtype eight at a time, those sums in float64); then the two products, dx
with the transposed weights laid out in scratch memory. A layer of few outputs has its products turned round, so that
vectors run over the inputs.
"""

from __future__ import annotations

from typing import Any

from . import activations as act
from .bodies import body, body_factory
from .modes import jit
from .products import multiply
from .scratch import scratch, scratch_float64
from .simd import (
    lanes,
    vacc_add,
    vacc_load,
    vacc_store,
    vacc_zero,
    vload,
    vload_n,
    vnarrow,
    vstore,
    vstore_n,
    vsum,
    vzero,
)
from .transposing import transpose

__all__ = ["dense", "dense_backward", "dense_block", "dense_block_backward", "dense_join", "dense_weights"]

ROWS = 8  # summed in the working dtype before they enter a float64 sum
# From where on a weight gradient gains by transposing x first (measured with AVX2, 0.4 to 0.97 of the time).
MANY, WIDE, LARGE, TALL = 64, 256, 32_768, 48  # rows; outputs; elements of x; inputs that must be done at a time


@jit
def _few(outputs, a):
    """Whether vectors along the outputs would be mostly empty."""
    return 4 * outputs <= lanes(a)


@jit
def _affine(x, w, b, y, relu, context):
    """y = x·w + b, through ReLU if asked for"""
    rows, inputs, outputs = x.shape[0], w.shape[0], b.size
    if _few(outputs, x) and inputs >= lanes(x):
        turned = scratch(context, x, inputs * outputs)
        transpose(w, 0, inputs, outputs, outputs, turned)
        _dots(x, turned, b, y, rows, inputs, outputs, relu)
    else:
        multiply(
            context, rows, outputs, inputs, x, 0, inputs, 1, w, 0, outputs, y, 0, outputs, b, 0, 0, 1, relu
        )  # fmt: skip


@jit
def _dots(x, turned, b, y, rows, inputs, outputs, relu):
    """y[n, o] = b[o] + Σᵢ x[n, i]·turned[o, i], four rows at a time"""
    out = y.reshape(-1)
    zero = x.dtype.type(0)
    whole = inputs // lanes(x) * lanes(x)
    rest = inputs - whole
    for n in range(0, rows, 4):
        # The last rows are done again rather than apart.
        r0 = min(n, max(rows - 4, 0))
        r1, r2, r3 = min(r0 + 1, rows - 1), min(r0 + 2, rows - 1), min(r0 + 3, rows - 1)
        for o in range(outputs):
            s0, s1, s2, s3 = vzero(x), vzero(x), vzero(x), vzero(x)
            for i in range(0, whole, lanes(x)):
                t = vload(turned, o * inputs + i)
                s0 += vload(x, r0 * inputs + i) * t
                s1 += vload(x, r1 * inputs + i) * t
                s2 += vload(x, r2 * inputs + i) * t
                s3 += vload(x, r3 * inputs + i) * t
            if rest:
                t = vload_n(turned, o * inputs + whole, rest)
                s0 += vload_n(x, r0 * inputs + whole, rest) * t
                s1 += vload_n(x, r1 * inputs + whole, rest) * t
                s2 += vload_n(x, r2 * inputs + whole, rest) * t
                s3 += vload_n(x, r3 * inputs + whole, rest) * t
            bias = b[o]
            out[r0 * outputs + o] = _relu(vsum(s0) + bias, relu, zero)
            out[r1 * outputs + o] = _relu(vsum(s1) + bias, relu, zero)
            out[r2 * outputs + o] = _relu(vsum(s2) + bias, relu, zero)
            out[r3 * outputs + o] = _relu(vsum(s3) + bias, relu, zero)


@jit
def _relu(x, relu, zero):
    return zero if relu and x <= zero else x


_FORWARD = {
    "leaky_relu": act.leaky_relu,
    "elu": act.elu,
    "softplus": act.softplus,
    "sigmoid": act.sigmoid,
    "tanh": act.tanh,
}
_TAKES_ALPHA = ("leaky_relu", "elu")


@body_factory
def dense(activation: str) -> Any:
    """y = act(x·w + b)"""
    relu = int(activation == "relu")
    apply = _FORWARD.get(activation)

    if apply is None:

        def body(x, w, b, y, alpha, context):
            _affine(x, w, b, y, relu, context)

    elif activation in _TAKES_ALPHA:

        def body(x, w, b, y, alpha, context):
            _affine(x, w, b, y, relu, context)
            apply(y, y, alpha)

    else:

        def body(x, w, b, y, alpha, context):
            _affine(x, w, b, y, relu, context)
            apply(y, y)

    return jit(body)


def _gradient_passes(slope: Any) -> tuple[Any, Any]:
    """dz = slope(y, dy) and db = Σₙ dz in one pass: for wide layers, and for those narrower than a vector."""

    @jit
    def wide(y, dy, dz, db, store, alpha, context):
        rows, outputs = dy.shape
        width = lanes(dy)
        sums = scratch_float64(context, outputs + width)
        for j in range(0, outputs, width):
            vacc_store(vacc_zero(dy), sums, j, width)
        for first in range(0, rows, ROWS):
            last = min(first + ROWS, rows)
            for j in range(0, outputs, width):
                s = vzero(dy)
                if j + width <= outputs:
                    for n in range(first, last):
                        d = slope(vload(y, n * outputs + j), vload(dy, n * outputs + j), alpha)
                        if store:
                            vstore(dz, n * outputs + j, d)
                        s += d
                else:
                    for n in range(first, last):
                        at = n * outputs + j
                        d = slope(vload_n(y, at, outputs - j), vload_n(dy, at, outputs - j), alpha)
                        if store:
                            vstore_n(dz, at, d, outputs - j)
                        s += d
                vacc_store(vacc_add(vacc_load(dy, sums, j, width), s), sums, j, width)
        if db.size > 0:
            for j in range(0, outputs, width):
                vstore_n(db, j, vnarrow(db, vacc_load(dy, sums, j, width)), outputs - j)

    @jit
    def narrow(y, dy, dz, db, store, alpha, context):
        """Over the flat arrays: `outputs` vectors hold as many whole rows, so what a lane holds repeats after them."""
        rows, outputs = dy.shape
        width, count = lanes(dy), rows * outputs
        sums = scratch_float64(context, outputs * width)
        for e in range(0, outputs * width, width):
            vacc_store(vacc_zero(dy), sums, e, width)
        place = 0
        for i in range(0, count, width):
            d = slope(vload_n(y, i, count - i), vload_n(dy, i, count - i), alpha)
            if store:
                vstore_n(dz, i, d, count - i)
            vacc_store(vacc_add(vacc_load(dy, sums, place, width), d), sums, place, width)
            place += width
            if place == outputs * width:
                place = 0
        if db.size > 0:
            for j in range(outputs):
                s = 0.0
                for e in range(j, outputs * width, outputs):
                    s += sums[e]
                db[j] = s

    return wide, narrow


@body_factory
def dense_backward(activation: str) -> Any:
    """dz = dy·act'(y), dx = dz·wᵀ, dw = xᵀ·dz, db = Σₙ dz; what is absent is not computed"""
    wide, narrow = _gradient_passes(act.SLOPES[activation])

    @jit
    def body(x, w, y, dy, dz, dx, dw, db, alpha, context):
        inputs, outputs = w.shape
        store = dz.size > 0
        target = dz if store else dy
        if store or db.size > 0:
            output = y if y.size > 0 else dy  # a linear layer has no need of it
            if outputs < lanes(dy):
                narrow(output, dy, target, db, store, alpha, context)
            else:
                wide(output, dy, target, db, store, alpha, context)
        if dx.size > 0:
            _input_gradient(target, w, inputs, outputs, outputs, dx, context)
        if dw.size > 0:
            _weight_gradient(x, inputs, target, dw, context)

    return body


@jit
def _input_gradient(dz, w, inputs, outputs, length, dx, context):
    """dx = dz·wᵀ, or dxᵀ = w·dzᵀ where that has less to transpose; the rows of w are `length` elements apart"""
    rows = dz.shape[0]
    turned = scratch(context, w, inputs * outputs)
    if rows * (inputs + outputs) > inputs * outputs:
        transpose(w, 0, inputs, outputs, length, turned)
        multiply(
            context, rows, inputs, outputs, dz, 0, outputs, 1, turned, 0, inputs, dx, 0, inputs, turned, 0, 0, 0, 0
        )  # fmt: skip
        return
    at = rows * outputs
    transpose(dz, 0, rows, outputs, outputs, turned)
    multiply(
        context, inputs, rows, outputs, w, 0, length, 1, turned, 0, rows, turned, at, rows, turned, 0, 0, 0, 0
    )  # fmt: skip
    transpose(turned, at, inputs, rows, rows, dx)


@jit
def _weight_gradient(x, length, dz, dw, context):
    """dw = xᵀ·dz; the rows of x are `length` elements apart"""
    inputs, outputs = dw.shape
    rows = dz.shape[0]
    if _few(outputs, dz) and inputs >= lanes(dz):
        turned = scratch(context, dz, inputs * outputs)
        multiply(
            context, outputs, inputs, rows, dz, 0, 1, outputs, x, 0, length, turned, 0, inputs, dw, 0, 0, 0, 0
        )  # fmt: skip
        transpose(turned, 0, outputs, inputs, inputs, dw)
    elif rows >= MANY and outputs >= WIDE and rows * inputs >= LARGE and rows * TALL <= outputs * inputs:
        _turned_weight_gradient(x, length, dz, dw, context)
    else:
        multiply(
            context, inputs, outputs, rows, x, 0, 1, length, dz, 0, outputs, dw, 0, outputs, dw, 0, 0, 0, 0
        )  # fmt: skip


@jit
def _turned_weight_gradient(x, length, dz, dw, context):
    """The same with x transposed first, as much of it at a time as there is room for.

    A tile reads some inputs of one row after the other: in place each would be on another page, and in the same few
    sets of the cache where `length` is a power of two.
    """
    inputs, outputs = dw.shape
    rows = dz.shape[0]
    turned = scratch(context, x, inputs * outputs)
    size = min(inputs, inputs * outputs // rows)
    for i in range(0, inputs, size):
        n = min(size, inputs - i)
        transpose(x, i, rows, n, length, turned)
        multiply(
            context, n, outputs, rows, turned, 0, rows, 1, dz, 0, outputs, dw, i * outputs, outputs, dw, 0, 0, 0, 0
        )  # fmt: skip


@body
def dense_weights(x, dz, dw, context):
    """dw = xᵀ·dz for some of the inputs: x begins at the first of them"""
    _weight_gradient(x, x.shape[1], dz, dw, context)


@body
def dense_block(x, w, b, y, context):
    """y = x·w + b for some of the outputs: w begins at the first of them; without b, a sum that is not complete"""
    inputs, outputs = w.shape[0], y.shape[1]
    multiply(
        context, x.shape[0], outputs, inputs, x, 0, inputs, 1, w, 0, w.shape[1], y, 0, outputs,
        b, 0, 0, int(b.size > 0), 0,
    )  # fmt: skip


@body
def dense_block_backward(x, w, dz, dx, dw, context):
    """dx = dz·wᵀ, dw = xᵀ·dz for some of the outputs: w and dw begin at the first of them"""
    inputs, length = w.shape
    rows, outputs = dz.shape
    if dx.size > 0:
        _input_gradient(dz, w, inputs, outputs, length, dx, context)
    if dw.size > 0:
        multiply(
            context, inputs, outputs, rows, x, 0, 1, inputs, dz, 0, outputs, dw, 0, length, dw, 0, 0, 0, 0
        )  # fmt: skip


@body
def dense_join(parts, y):
    """y = Σₛ parts[s], in this order; a part has room for R rows"""
    shares, apart, count = parts.shape[0], parts.shape[1] * parts.shape[2], y.size
    for i in range(0, count, lanes(y)):
        n = count - i
        s = vload_n(parts, i, n)
        for k in range(1, shares):
            s += vload_n(parts, k * apart + i, n)
        vstore_n(y, i, s, n)
