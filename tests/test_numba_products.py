"""Dense layers so large that their products are packed, turned round or taken in pieces: the same sums all the same."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import nnfast as nn
import nnfast.functional as F

pytest.importorskip("numba")
products = importlib.import_module("nnfast.kernels.numba_cpu.products")
dense = importlib.import_module("nnfast.kernels.numba_cpu.dense")

LIMITS = {"float32": 2e-6, "float64": 1e-14}  # of an output's largest element
GROUP_OF_STRIPS = products.GROUP * products.WIDE * products.VECTOR_BYTES // 4  # columns of float32
SHAPES = {
    "strips, more than one group": (products.PACKED, 40, 2 * GROUP_OF_STRIPS + 3),
    "one column after a group": (products.PACKED + 1, 40, GROUP_OF_STRIPS + 1),
    "inner sizes in pieces": (products.PACKED, 2 * products.INNER + 5, 70),
    "x transposed at once": (dense.MANY, dense.LARGE // dense.MANY, dense.WIDE + 1),
    "x transposed in parts": (dense.WIDE + 150, 3 * dense.TALL + 100, dense.WIDE + 7),
    "x not transposed": (dense.MANY - 1, dense.LARGE // dense.MANY, dense.WIDE),
    "dx turned": (7, 130, 90),
    "dx turned, as much memory as there is": (60, 120, 120),
    "dx not turned": (61, 120, 120),
    "one row": (1, 300, 300),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_layers_agree_with_the_equations(shape, dtype, threads):
    n, i, o = SHAPES[shape]
    rng = np.random.default_rng(0)
    x, w, b, dy = (rng.standard_normal(size).astype(dtype) for size in ((n, i), (i, o), o, (n, o)))
    before = nn.get_num_threads()
    nn.set_num_threads(threads)
    try:
        y = F.dense(x, w, b, backend="numba")
        gradients = F.dense_backward(x, w, dy, backend="numba")
    finally:
        nn.set_num_threads(before)
    x, w, b, dy = (a.astype(np.float64) for a in (x, w, b, dy))
    for got, want in zip((y, *gradients), (x @ w + b, dy @ w.T, x.T @ dy, dy.sum(axis=0)), strict=True):
        assert got.dtype == dtype
        assert np.abs(got - want).max() <= LIMITS[dtype] * np.abs(want).max()
