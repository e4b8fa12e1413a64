"""Philox4x32-10: random numbers that are a pure function of a key and a counter (Salmon et al., SC 2011).

Nothing is stored and nothing is drawn in order, so every backend makes the same numbers for the same element,
whichever thread or block computes it. A key has 64 bits: word 0 is its low half, word 1 its high half. A counter is
four words of 32 bits:

    what            word 0                  word 1        word 2        word 3
    dropout         element//4, low half    layer         step, low     step, high
    random search   element//4, low half    0xffffffff    step, low     step, high

Element number e uses word e % 4 of its block. No model has 2³² − 1 layers, so the two uses never share a counter.
"""

from __future__ import annotations

import numpy as np

from nnfast.protocol import Array

__all__ = ["SEARCH_STREAM", "normals", "stream", "words"]

SEARCH_STREAM = 0xFFFFFFFF  # counter word 1 of random search

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


def words(key: int, c0: Array, c1: Array, c2: Array, c3: Array) -> Array:
    """The four output words of each counter: shape (..., 4) uint32, for counters (each below 2³²) that broadcast."""
    a, b, c, d = (np.asarray(word, np.uint64) for word in (c0, c1, c2, c3))
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    for _ in range(_ROUNDS):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            right >> _HALF ^ b ^ np.uint64(k0),
            right & _LOW,
            left >> _HALF ^ d ^ np.uint64(k1),
            left & _LOW,
        )
        k0, k1 = k0 + _WEYL[0] & 0xFFFFFFFF, k1 + _WEYL[1] & 0xFFFFFFFF
    return np.stack(np.broadcast_arrays(a, b, c, d), axis=-1).astype(np.uint32)


def stream(key: int, lane: int, step: int, first: int, count: int) -> Array:
    """The words of elements first … first + count − 1 of a stream: (count,) uint32.

    Counter word 0 holds the low half of element//4 only: a stream repeats after 2³⁴ elements, which no batch has.
    """
    if count == 0:
        return np.empty(0, np.uint32)
    blocks = np.arange(first // 4, (first + count - 1) // 4 + 1, dtype=np.uint64) & _LOW
    block_words = words(key, blocks, lane & 0xFFFFFFFF, step & 0xFFFFFFFF, step >> 32 & 0xFFFFFFFF)
    return block_words.ravel()[first % 4 : first % 4 + count]


def normals(key: int, step: int, first: int, count: int) -> Array:
    """Standard normals for the elements first … first + count − 1 of candidate `step`: (count,) float64, Box-Muller.

    Elements e = 2k and 2k + 1 share the words v = word(2k) and w = word(2k + 1) of the random-search stream:

        u = (v + 1)/2³² in (0, 1],  t = 2π·w/2³²,  r = √(−2·log u)
        normal(2k) = r·cos t,  normal(2k + 1) = r·sin t
    """
    start, stop = first - first % 2, first + count + (first + count) % 2
    pairs = stream(key, SEARCH_STREAM, step, start, stop - start).astype(np.float64).reshape(-1, 2)
    r = np.sqrt(-2 * np.log((pairs[:, 0] + 1) / 2**32))
    t = 2 * np.pi * (pairs[:, 1] / 2**32)
    return np.stack([r * np.cos(t), r * np.sin(t)], axis=1).ravel()[first - start : first - start + count]
