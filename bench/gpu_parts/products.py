"""Products by cublasLt as the networks need them: epilogues against kernels of our own, layouts, widths, 3×TF32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpu_parts.clock import Replay, interleaved
from gpu_parts.section import Section
from gpu_parts.stand import PRECISIONS, Stand

__all__ = ["products", "split"]

# rows, inputs, outputs of a dense layer
SHAPES = (
    *((300, 2, 64), (128, 784, 128), (128, 784, 512), (128, 512, 256), (128, 256, 10), (512, 512, 512)),
    *(
        (1024, 784, 1024),
        (1024, 1024, 1024),
        (1024, 1024, 10),
        (2048, 2048, 2048),
        (4096, 4096, 4096),
        (8192, 4096, 4096),
    ),
)
TINY = ((6, 5, 4),)
EPILOGUES = ("", "bias", "relu_bias", "relu_aux_bias", "drelu_bias_grad", "bias_grad")
ROUNDS = 5
LONG = 10**11  # operations from which a product is timed alone
PROPOSALS = 3  # of the library's, from which the fastest counts


def products(section: Section, stand: Stand) -> None:
    shapes = TINY if stand.simulated else SHAPES
    with stand.stream():
        for precision in PRECISIONS:
            for shape in shapes:
                name = f"epilogues, {precision}, {'x'.join(map(str, shape))}"
                section.step(name, _epilogues, stand, precision, *shape)
        for precision in PRECISIONS:
            section.step(f"layouts, {precision}", _layouts, stand, precision)
            section.step(f"narrow outputs, {precision}", _narrow, stand, precision)
        section.step("three TF32 products for one", _three_for_one, stand)


def _random(stand: Stand, *shape: int) -> Any:
    rng = np.random.default_rng(shape)
    return stand.cupy.asarray(rng.standard_normal(shape, np.float32))


def fastest(stand: Stand, precision: str, a: Any, b: Any, c: Any, **how: Any) -> float | str:
    """Seconds of a product by the fastest of the first proposals, or why there is none."""
    try:
        works = stand.runs(stand.matmul(precision, a, b, c, **how), PROPOSALS)
        if not works:
            return "not supported"
        repeats = 1 if 2 * math.sqrt(a.size * b.size * c.size) > LONG else 4
        replays = {str(i): Replay(stand.cupy, [work], repeats) for i, work in enumerate(works)}
        times = interleaved({i: replay.seconds for i, replay in replays.items()}, ROUNDS)
        return min(float(np.median(seconds)) for seconds in times.values())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _epilogues(stand: Stand, precision: str, rows: int, inputs: int, outputs: int) -> dict[str, Any]:
    """Microseconds of x·w with each epilogue, and of our own kernels that do the same to a product that lies there.

    Those of the backward pass are timed on products of the same size: dz·wᵀ with "drelu_bias_grad", xᵀ·dz with
    "bias_grad".
    """
    x, w, y = _random(stand, rows, inputs), _random(stand, inputs, outputs), _random(stand, rows, outputs)
    dy, dx, dw = _random(stand, rows, outputs), _random(stand, rows, inputs), _random(stand, inputs, outputs)
    bias, sums, other = _random(stand, outputs), _random(stand, outputs), _random(stand, inputs)
    bits = {n: stand.cupy.zeros((rows, -(-n // 128) * 16), np.uint8) for n in {outputs, inputs}}
    times: dict[str, float | str] = {
        "forward": fastest(stand, precision, x, w, y),
        "forward, bias": fastest(stand, precision, x, w, y, epilogue="bias", bias=bias),
        "forward, relu_bias": fastest(stand, precision, x, w, y, epilogue="relu_bias", bias=bias),
        "forward, relu_aux_bias": fastest(
            stand, precision, x, w, y, epilogue="relu_aux_bias", bias=bias, aux=bits[outputs]
        ),
        "dx": fastest(stand, precision, dy, w, dx, transpose_b=True),
        "dx, drelu_bias_grad": fastest(
            stand, precision, dy, w, dx, transpose_b=True, epilogue="drelu_bias_grad", bias=other, aux=bits[inputs]
        ),
        "dw": fastest(stand, precision, x, dy, dw, transpose_a=True),
        "dw, bias_grad": fastest(stand, precision, x, dy, dw, transpose_a=True, epilogue="bias_grad", bias=sums),
    }
    activate = stand.launches("dense", [x, w, bias, y], alpha=0.0, activation="relu")
    kernels = {
        "our bias + ReLU": activate,
        "our slopes + bias gradient": stand.launches(
            "dense_backward",
            [x, w, x, dx, dx, None, None, other],
            alpha=0.0,
            activation="relu",  # of the layer below
        ),
        "our bias gradient": stand.launches(
            "dense_backward", [x, w, None, dy, None, None, None, sums], alpha=0.0, activation="linear"
        ),
    }
    for name, work in kernels.items():
        replay = Replay(stand.cupy, [work], 4)
        times[name] = float(np.median([replay.seconds() for _ in range(ROUNDS)]))
    return {name: t * 1e6 if isinstance(t, float) else t for name, t in times.items()}


def _layouts(stand: Stand, precision: str) -> dict[str, Any]:
    """Microseconds of the same product with either operand lying transposed."""
    found: dict[str, Any] = {}
    for n in (8,) if stand.simulated else (512, 1024, 4096):
        a, b, c = (_random(stand, n, n) for _ in range(3))
        for turned_a in (False, True):
            for turned_b in (False, True):
                seconds = fastest(stand, precision, a, b, c, transpose_a=turned_a, transpose_b=turned_b)
                found[f"{n}: {'NT'[turned_a]}{'NT'[turned_b]}"] = _microseconds(seconds)
    return found


def _narrow(stand: Stand, precision: str) -> dict[str, Any]:
    """Microseconds of a last layer's three products, by the width of its output."""
    found: dict[str, Any] = {}
    for rows, inner in ((8, 4),) if stand.simulated else ((128, 256), (1024, 1024), (8192, 1024)):
        for width in (10, 12) if stand.simulated else (8, 10, 12, 16):
            x, w, y = _random(stand, rows, inner), _random(stand, inner, width), _random(stand, rows, width)
            for name, seconds in (
                ("y", fastest(stand, precision, x, w, y)),
                ("dx", fastest(stand, precision, y, w, x, transpose_b=True)),
                ("dw", fastest(stand, precision, x, y, w, transpose_a=True)),
            ):
                found[f"{rows}x{inner}, {width} wide: {name}"] = _microseconds(seconds)
    return found


def _microseconds(seconds: float | str) -> float | str:
    return seconds * 1e6 if isinstance(seconds, float) else seconds


def split(a: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """float32 as a sum of two numbers, the first of which TF32 holds exactly (10 bits behind the point)."""
    high = ((a.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return high, a - high


def _three_for_one(stand: Stand) -> dict[str, Any]:
    """[lo | hi | hi]·[hi; lo; hi], one TF32 product of inner size 3K, beside the plain ones: time, error/(|A||B|)."""
    found: dict[str, Any] = {}
    for n, inner in ((8, 6),) if stand.simulated else ((1024, 1024), (4096, 4096)):
        rng = np.random.default_rng(n)
        a, b = rng.standard_normal((n, inner), np.float32), rng.standard_normal((inner, n), np.float32)
        (a_high, a_low), (b_high, b_low) = split(a), split(b)
        operands = {
            "fp32": ("fp32", a, b),
            "tf32": ("tf32", a, b),
            "three": ("tf32", np.hstack([a_low, a_high, a_high]), np.vstack([b_high, b_low, b_high])),
        }
        rows = slice(0, 64)  # the whole product in float64 would take the host too long
        exact = a[rows].astype(np.float64) @ b.astype(np.float64)
        size = np.abs(a[rows]).astype(np.float64) @ np.abs(b).astype(np.float64)
        c = stand.cupy.zeros((n, n), np.float32)
        for name, (precision, left, right) in operands.items():
            left, right = stand.cupy.asarray(left), stand.cupy.asarray(right)
            seconds = fastest(stand, precision, left, right, c)
            error = np.abs(stand.cupy.asnumpy(c)[rows] - exact) / size
            found[f"{n}, inner {inner}: {name}"] = {
                "microseconds": _microseconds(seconds),
                "largest error": float(error.max()),
                "typical error": float(np.median(error)),
            }
    return found
