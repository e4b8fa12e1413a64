"""Philox4x32-10, several blocks at a time: the words of `kernels/reference/philox.py`, whose numbering holds here too.

A block of four words is made from its counter (block, stream, step low, step high) and the two halves of the key. Here
`block`, `key` and `step` are whole integers: of `block` the lower 32 bits count, and the others are cut in two.

    kept(key, stream, step, block, limit)   for the GROUP words from word 4·block on: bit i tells if word i is >= limit
    mask_of(a, bits, first)                 W of these bits, from bit `first` on, as a mask for vectors of `a`
    uniforms(a, key, stream, step, block)   for W pairs of words (v, w) from word 4·block on, as vectors for a:
                                            (v + 1)/2³² and 1 less that, both without loss near 0, and w/2³²
"""

from __future__ import annotations

from typing import Any

from .modes import PLAIN

__all__ = ["GROUP", "kept", "mask_of", "uniforms"]

GROUP = 64

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_LOW = 0xFFFFFFFF

if PLAIN:
    import numpy as np

    from nnfast.protocol import Array

    from .simd import lanes

    def _plain_words(key: int, stream: int, step: int, block: int, blocks: int) -> Array:
        """The four words of each block, a row per block: (blocks, 4) uint64."""
        a = np.arange(block, block + blocks).astype(np.uint64) & np.uint64(_LOW)
        b, c, d = (np.full(blocks, word & _LOW, np.uint64) for word in (stream, step, step >> 32))
        keys = [key & _LOW, key >> 32 & _LOW]
        for _ in range(_ROUNDS):
            left, right = a * np.uint64(_MULTIPLIERS[0]), c * np.uint64(_MULTIPLIERS[1])
            a, b = right >> np.uint64(32) ^ b ^ np.uint64(keys[0]), right & np.uint64(_LOW)
            c, d = left >> np.uint64(32) ^ d ^ np.uint64(keys[1]), left & np.uint64(_LOW)
            keys = [(k + w) & _LOW for k, w in zip(keys, _WEYL, strict=True)]
        return np.stack([a, b, c, d], axis=1)

    def kept(key: int, stream: int, step: int, block: int, limit: int) -> int:
        words = _plain_words(key, stream, step, block, GROUP // 4)
        return sum(1 << i for i, word in enumerate(words.flat) if word >= limit)

    def mask_of(a: Array, bits: int, first: int) -> Array:
        return np.array([bits >> first + lane & 1 for lane in range(lanes(a))], np.bool_)

    def uniforms(a: Array, key: int, stream: int, step: int, block: int) -> tuple[Array, Array, Array]:
        pairs = _plain_words(key, stream, step, block, -(-lanes(a) // 2)).reshape(-1, 2)
        v, w = pairs[:, 0].astype(a.dtype), pairs[:, 1].astype(a.dtype)
        rest = (np.uint64(_LOW) - pairs[:, 0]).astype(a.dtype)
        return (v + 1) / 2**32, rest / 2**32, w / 2**32

else:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    from .simd_types import FLAGS, Mask, Vec
    from .simd_width import VECTOR_BYTES

    _I64 = ir.IntType(64)

    def _splat(builder: Any, kind: Any, number: Any) -> Any:
        """A number, of Python or of LLVM, in every lane."""
        if isinstance(number, int):
            return ir.Constant(kind, [number] * kind.count)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)

    def _words(builder: Any, key: Any, stream: Any, step: Any, block: Any, blocks: int) -> tuple[Any, ...]:
        """The four words of each block, a vector per word: <blocks x i64>, of which the lower halves count.

        The upper halves are never cleared: a product is taken of the lower ones, which is one instruction.
        """
        kind = ir.VectorType(_I64, blocks)
        low, half = (_splat(builder, kind, number) for number in (_LOW, 32))
        a = builder.add(_splat(builder, kind, block), ir.Constant(kind, list(range(blocks))))
        b, c = _splat(builder, kind, stream), _splat(builder, kind, step)
        d = _splat(builder, kind, builder.lshr(step, _I64(32)))
        keys = [key, builder.lshr(key, _I64(32))]
        for _ in range(_ROUNDS):
            left, right = (
                builder.mul(builder.and_(word, low), _splat(builder, kind, multiplier))
                for word, multiplier in zip((a, c), _MULTIPLIERS, strict=True)
            )
            k0, k1 = (_splat(builder, kind, k) for k in keys)
            a, b = builder.xor(builder.xor(builder.lshr(right, half), b), k0), right
            c, d = builder.xor(builder.xor(builder.lshr(left, half), d), k1), left
            keys = [builder.add(k, _I64(w)) for k, w in zip(keys, _WEYL, strict=True)]
        return a, b, c, d

    def _side_by_side(builder: Any, first: Any, second: Any) -> Any:
        """The lower halves of two vectors, first₀ second₀ first₁ second₁ …, as <2n x i32>."""
        kind = first.type
        low = builder.and_(first, _splat(builder, kind, _LOW))
        both = builder.or_(low, builder.shl(second, _splat(builder, kind, 32)))
        return builder.bitcast(both, ir.VectorType(ir.IntType(32), 2 * kind.count))

    @intrinsic
    def kept(typing: Any, key: Any, stream: Any, step: Any, block: Any, limit: Any) -> Any:
        blocks = min(2 * VECTOR_BYTES // 8, GROUP // 4)  # two registers per word: with four, the smaller ones run out

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            key, stream, step, block, limit = args
            bits: Any = _I64(0)
            for start in range(0, GROUP // 4, blocks):
                a, b, c, d = _words(builder, key, stream, step, builder.add(block, _I64(start)), blocks)
                ab, cd = (builder.bitcast(_side_by_side(builder, *pair), a.type) for pair in ((a, b), (c, d)))
                order = [k + half for k in range(blocks) for half in (0, blocks)]
                words = builder.shuffle_vector(ab, cd, ir.Constant(ir.VectorType(ir.IntType(32), 2 * blocks), order))
                words = builder.bitcast(words, ir.VectorType(ir.IntType(32), 4 * blocks))
                enough = _splat(builder, words.type, builder.trunc(limit, ir.IntType(32)))
                part = builder.bitcast(builder.icmp_unsigned(">=", words, enough), ir.IntType(4 * blocks))
                if part.type != _I64:
                    part = builder.zext(part, _I64)
                bits = builder.or_(bits, builder.shl(part, _I64(4 * start)))
            return bits

        return types.int64(*[types.int64] * 5), code

    @intrinsic
    def mask_of(typing: Any, a: Any, bits: Any, first: Any) -> Any:
        mask = Mask(VECTOR_BYTES // (a.dtype.bitwidth // 8))

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            those = builder.trunc(builder.lshr(args[1], args[2]), ir.IntType(mask.lanes))
            return builder.bitcast(those, mask.llvm)

        return mask(a, types.int64, types.int64), code

    @intrinsic
    def uniforms(typing: Any, a: Any, key: Any, stream: Any, step: Any, block: Any) -> Any:
        vec = Vec(a.dtype, VECTOR_BYTES // (a.dtype.bitwidth // 8))

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            _, key, stream, step, block = args
            words = _words(builder, key, stream, step, block, vec.lanes // 2)
            v, w = (_side_by_side(builder, *pair) for pair in (words[0::2], words[1::2]))
            one, unit = (ir.Constant(vec.llvm, [number] * vec.lanes) for number in (1.0, 2.0**-32))
            above = builder.fadd(builder.uitofp(v, vec.llvm), one, flags=FLAGS)
            rest, turn = (builder.uitofp(word, vec.llvm) for word in (builder.not_(v), w))
            numbers = [builder.fmul(x, unit, flags=FLAGS) for x in (above, rest, turn)]
            return context.make_tuple(builder, sig.return_type, numbers)

        return types.UniTuple(vec, 3)(a, *[types.int64] * 4), code
