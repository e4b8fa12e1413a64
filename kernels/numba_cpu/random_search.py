"""Random search: P parameters, S sums. A candidate is made by vectors of random pairs; the better one is kept.

Candidates are made billions of times, so this is done in the working dtype: Box-Muller in float32 is within 4e-6 of the
value in float64. The number of an element has the same bits wherever p is cut.
"""

from __future__ import annotations

from typing import Any

from .bodies import body, body_factory
from .modes import PLAIN, jit
from .philox import uniforms
from .simd import lanes, vexponent, vfma, vload, vload_n, vselect, vset, vsignificand, vsqrt, vstore, vstore_n
from .vmath import _log_of, vsincos_2pi

__all__ = ["random_search_accept", "random_search_propose"]

SEARCH_STREAM = 0xFFFFFFFF  # counter word 1 of random search

if PLAIN:
    import numpy as np

    from nnfast.protocol import Array

    def _interleave(x: Array, y: Array) -> Any:
        return np.stack([x, y], axis=1).reshape(2, -1)

    def _drop(x: Array, y: Array, n: int) -> Any:
        return np.concatenate([x, y, np.zeros_like(x), np.zeros_like(x)])[n : n + 2 * x.size].reshape(2, -1)

else:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def _interleave(typing: Any, x: Any, y: Any) -> Any:
        """The lanes x₀ y₀ x₁ y₁ …, as two vectors."""
        order = [lane + source for lane in range(x.lanes) for source in (0, x.lanes)]
        kind = ir.VectorType(ir.IntType(32), x.lanes)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            parts = [
                builder.shuffle_vector(*args, ir.Constant(kind, order[start : start + x.lanes]))
                for start in (0, x.lanes)
            ]
            return context.make_tuple(builder, sig.return_type, parts)

        return types.UniTuple(x, 2)(x, y), code

    @intrinsic
    def _drop(typing: Any, x: Any, y: Any, n: Any) -> Any:
        """The lanes of x and y without the first n, as two vectors that end in zeros; by way of memory."""
        size = x.dtype.bitwidth // 8

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            zeros = ir.Constant(x.llvm, [0.0] * x.lanes)
            memory = cgutils.alloca_once(builder, x.llvm.element, 4 * x.lanes)

            def place(i: Any) -> Any:
                return builder.bitcast(builder.gep(memory, [i]), x.llvm.as_pointer())

            for i, v in enumerate((*args[:2], zeros, zeros)):
                builder.store(v, place(ir.IntType(64)(i * x.lanes)), align=size)
            starts = (args[2], builder.add(args[2], ir.IntType(64)(x.lanes)))
            parts = [builder.load(place(start), align=size) for start in starts]
            return context.make_tuple(builder, sig.return_type, parts)

        return types.UniTuple(x, 2)(x, y, types.int64), code


@jit
def _normals(a, key, step, block):
    """The standard normals of candidate `step` from number 4·block on, as two vectors.

    r = √(−2·log u), from u where u < √½ and from 1 − u else, which tells more of a u that is close to 1
    """
    u, rest, t = uniforms(a, key, SEARCH_STREAM, step, block)
    e = vexponent(u)
    r = vsqrt(-2.0 * _log_of(e, vselect(e == 0.0, -rest, vsignificand(u) - 1.0)))
    cosine, sine = vsincos_2pi(t)
    return _interleave(r * cosine, r * sine)


@body_factory
def random_search_propose(mode: str) -> Any:
    """q = scale·normal (mode "sample"), q = p + scale·normal (mode "perturb"); q[i] takes normal number offset + i"""
    perturb = mode == "perturb"

    @jit
    def put(p, q, i, normals, scale, n):
        """the first n lanes of q[i …]"""
        if n >= lanes(p):
            vstore(q, i, vfma(normals, scale, vload(p, i)) if perturb else normals * scale)
        else:
            vstore_n(q, i, vfma(normals, scale, vload_n(p, i, n)) if perturb else normals * scale, n)

    @jit
    def random_search_propose(p, q, key, step, scale, offset):
        """Vectors begin at whole blocks of four numbers, so the first ones may begin before p."""
        factor = vset(p, scale)
        before = offset % 4
        for start in range(-before, p.size, 2 * lanes(p)):
            one, two = _normals(p, key, step, (offset + start) // 4)
            i = start
            if start < 0:
                one, two = _drop(one, two, before)
                i = 0
            n = min(start + 2 * lanes(p), p.size) - i
            put(p, q, i, one, factor, n)
            put(p, q, i + lanes(p), two, factor, n - lanes(p))

    return random_search_propose


def _exact(function: Any) -> Any:
    """Compiled without fast-math, which could make two losses equal that are not, or the other way round."""
    return jit(function, {"error_model": "numpy", "nogil": True})


@_exact
def _loss(sums, normaliser):
    return sums[0] / normaliser + sums[1]


@body
def random_search_accept(p, q, sums, best, normaliser):
    """If the candidate is better: p = q, best = sums; else: sums = best. The loss is sums[0]/normaliser + sums[1]."""
    if _loss(sums, normaliser) < _loss(best, normaliser):
        for i in range(p.size):
            p[i] = q[i]
        for s in range(sums.size):
            best[s] = sums[s]
    else:
        for s in range(sums.size):
            sums[s] = best[s]
