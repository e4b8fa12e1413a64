"""Philox4x32-10: published vectors, a second implementation, and what dropout and random search make of it."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnfast.testing import assert_parity

philox = importlib.import_module("nnfast.kernels.reference.philox")
KEY = 0x0123456789ABCDEF
LATE = 3 * 2**32 + 7


def plain_philox(key: int, counter: tuple[int, int, int, int]) -> tuple[int, ...]:
    """The same cipher with Python's integers, straight from the paper."""
    a, b, c, d = counter
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        first, second = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (
            (second >> 32) ^ b ^ k0,
            second & 0xFFFFFFFF,
            (first >> 32) ^ d ^ k1,
            first & 0xFFFFFFFF,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


def plain_word(key: int, lane: int, step: int, element: int) -> int:
    block = element // 4 & 0xFFFFFFFF
    return plain_philox(key, (block, lane, step & 0xFFFFFFFF, step >> 32))[element % 4]


# Random123's kat_vectors: counter words, key words, result.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_published_vectors(counter: str, key: str, result: str) -> None:
    low, high = (int(word, 16) for word in key.split())
    got = philox.words(low | high << 32, *(int(word, 16) for word in counter.split()))
    assert got.dtype == np.uint32
    assert " ".join(f"{word:08x}" for word in got) == result
    assert plain_philox(low | high << 32, tuple(int(w, 16) for w in counter.split())) == tuple(got)  # type: ignore[arg-type]


@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_published_vectors_of_the_cuda_source(counter: str, key: str, result: str) -> None:
    """The same on the GPU backend's function, run by the simulator."""
    build = importlib.import_module("simulator.build")
    if build.unavailable():
        pytest.skip(build.unavailable())
    source = str(Path(build.__file__).parent / "intrinsics.cu")
    library = build.library("float32", extra_sources=(source,))
    words = np.array([int(word, 16) for word in counter.split()], np.uint32)
    low, high = (int(word, 16) for word in key.split())
    out = np.zeros(4, np.uint32)
    args = np.zeros((), library.layout("s_philox"))
    args["counter"], args["out"], args["key"] = words.ctypes.data, out.ctypes.data, low | high << 32
    library.launch("s_philox", (1, 1), args)
    assert " ".join(f"{word:08x}" for word in out) == result


@pytest.mark.parametrize("first", [0, 1, 2, 3, 5, 2**31 + 3, 2**34 - 2])
@pytest.mark.parametrize("count", [0, 1, 4, 11])
def test_stream_is_numbered_by_element(first: int, count: int) -> None:
    """Blocks of four words, cut anywhere; after 2³⁴ elements the counter starts again."""
    got = philox.stream(KEY, 5, LATE, first, count)
    assert list(got) == [plain_word(KEY, 5, LATE, first + i) for i in range(count)]


@pytest.mark.parametrize("changed", ["key low", "key high", "lane", "step low", "step high"])
def test_every_part_of_key_and_counter_matters(changed: str) -> None:
    args = {"key": KEY, "lane": 5, "step": LATE}
    name, _, half = changed.partition(" ")
    other = {**args, name: args[name] + (2**32 if half == "high" else 1)}
    same = philox.stream(**args, first=0, count=64) == philox.stream(**other, first=0, count=64)
    assert not same.any()


def mask(backend: Any, rows: int, width: int, **keywords: Any) -> Any:
    y = np.empty((rows, width), np.float32)
    settings = {"rate": 0.25, "key": KEY, "step": LATE, "layer": 2, "first_row": 0, **keywords}
    backend.kernel("dropout")(np.ones((rows, width), np.float32), y, **settings)
    return y


def test_dropout_mask_is_the_documented_function(backend: Any) -> None:
    got = mask(backend, 3, 5, first_row=7)
    limit = int(0.25 * 2**32)
    want = [[plain_word(KEY, 2, LATE, (7 + n) * 5 + i) >= limit for i in range(5)] for n in range(3)]
    assert_parity(got, np.where(want, np.float32(1 / 0.75), np.float32(0)))


def test_dropout_does_not_depend_on_how_rows_are_split(backend: Any) -> None:
    whole = mask(backend, 10, 7)
    assert_parity(np.concatenate([mask(backend, 3, 7), mask(backend, 7, 7, first_row=3)]), whole)


def test_backward_has_the_mask_of_forward(backend: Any, dtype: Any) -> None:
    keywords = {"rate": 0.5, "key": KEY, "step": 3, "layer": 0, "first_row": 2}
    x = np.arange(1.0, 64).reshape(9, 7).astype(dtype)
    y, dx = np.empty_like(x), np.empty_like(x)
    backend.kernel("dropout")(x, y, **keywords)
    backend.kernel("dropout_backward")(x, dx, **keywords)
    assert_parity(dx, y)
    assert 10 < (y == 0).sum() < 53


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(backend: Any, rate: float) -> None:
    y = mask(backend, 1000, 100, rate=rate)
    spread = math.sqrt(rate * (1 - rate) / y.size)
    assert abs((y == 0).mean() - rate) < 4 * spread
    assert abs(y.mean() - 1) < 4 * spread / (1 - rate)


def test_dropout_at_rate_0_keeps_all(backend: Any) -> None:
    assert_parity(mask(backend, 20, 50, rate=0.0), np.ones((20, 50), np.float32))


def test_dropped_elements_are_0_whatever_they_were(backend: Any, dtype: Any) -> None:
    keywords = {"rate": 0.5, "key": KEY, "step": 1, "layer": 0, "first_row": 0}
    kept = mask(backend, 6, 8, **keywords) > 0
    for bad in (np.nan, np.inf):
        y = np.empty((6, 8), dtype)
        backend.kernel("dropout")(np.full((6, 8), bad, dtype), y, **keywords)
        assert_parity(y, np.where(kept, bad, 0).astype(dtype))


def plain_normal(key: int, step: int, element: int) -> float:
    pair = element - element % 2
    v, w = (plain_word(key, 0xFFFFFFFF, step, pair + i) for i in (0, 1))
    r, t = math.sqrt(-2 * math.log((v + 1) / 2**32)), 2 * math.pi * w / 2**32
    return r * (math.sin(t) if element % 2 else math.cos(t))


@pytest.mark.parametrize("first", [0, 1, 6, 2**33 + 3])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_normals_are_the_documented_function(first: int, count: int) -> None:
    want = np.array([plain_normal(KEY, LATE, first + i) for i in range(count)])
    assert_parity(philox.normals(KEY, LATE, first, count), want, limit=1e-13)


def test_normals_look_normal() -> None:
    x = philox.normals(KEY, 1, 0, 400_000)
    error = 4 / math.sqrt(len(x))  # four standard errors; the moments' own spreads are 1, √2, √15 and √96
    assert abs(x.mean()) < error
    assert abs((x**2).mean() - 1) < error * math.sqrt(2)
    assert abs((x**3).mean()) < error * math.sqrt(15)
    assert abs((x**4).mean() - 3) < error * math.sqrt(96)
    assert abs((x[1:] * x[:-1]).mean()) < error
    assert np.isfinite(x).all()


def test_candidates_join_over_ranges(backend: Any, dtype: Any) -> None:
    """Frozen layers split the parameters into ranges; each range gets the numbers of its place."""
    p = np.linspace(-1, 1, 21).astype(dtype)
    for mode in ("sample", "perturb"):
        keywords = {"key": KEY, "step": 9, "scale": 0.05, "mode": mode}
        whole, first, second = np.empty_like(p), np.empty_like(p[:8]), np.empty_like(p[8:])
        backend.kernel("random_search_propose")(p, whole, offset=5, **keywords)
        backend.kernel("random_search_propose")(p[:8], first, offset=5, **keywords)
        backend.kernel("random_search_propose")(p[8:], second, offset=13, **keywords)
        assert_parity(np.concatenate([first, second]), whole)
        noise = 0.05 * np.array([plain_normal(KEY, 9, 5 + i) for i in range(21)])
        eps = float(np.finfo(dtype).eps)
        assert_parity(whole, noise + (p if mode == "perturb" else 0), limit=2 * eps, dtype=dtype)
