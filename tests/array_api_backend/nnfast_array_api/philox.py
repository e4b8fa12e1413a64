"""Philox4x32-10 (Salmon et al., SC 2011): random numbers that are a pure function of a key and of where they belong.

All backends make the same numbers. A counter has four words of 32 bits: element//4, a lane (the layer for dropout, all
ones for random search), and the two halves of the step. Element e takes word e % 4 of its block.
"""

from __future__ import annotations

import math

__all__ = ["normals", "words"]

LOW = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
SEARCH = 0xFFFFFFFF  # the lane of random search


def words(like, key, lane, step, first, count):
    """(count,) uint64, each below 2³²: the words of elements first … first + count − 1, where the array `like` lies"""
    xp = like.__array_namespace__()
    blocks = xp.arange(first // 4, (first + count - 1) // 4 + 1, dtype=xp.uint64, device=like.device)
    a, b = blocks & LOW, xp.full_like(blocks, lane & LOW)
    c, d = xp.full_like(blocks, step & LOW), xp.full_like(blocks, step >> 32 & LOW)
    k0, k1 = key & LOW, key >> 32 & LOW
    for _ in range(ROUNDS):
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (right >> 32) ^ b ^ k0, right & LOW, (left >> 32) ^ d ^ k1, left & LOW
        k0, k1 = k0 + WEYL[0] & LOW, k1 + WEYL[1] & LOW
    return xp.reshape(xp.stack([a, b, c, d], axis=1), (-1,))[first % 4 : first % 4 + count]


def normals(like, key, step, first, count):
    """(count,) float64 standard normals, Box-Muller: a pair of elements shares a radius and an angle"""
    xp = like.__array_namespace__()
    start, stop = first - first % 2, first + count + (first + count) % 2
    pairs = xp.reshape(xp.astype(words(like, key, SEARCH, step, start, stop - start), xp.float64), (-1, 2))
    radius = xp.sqrt(-2 * xp.log((pairs[:, 0] + 1) / 2**32))
    angle = 2 * math.pi * (pairs[:, 1] / 2**32)
    both = xp.stack([radius * xp.cos(angle), radius * xp.sin(angle)], axis=1)
    return xp.reshape(both, (-1,))[first - start : first - start + count]
