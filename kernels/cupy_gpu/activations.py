"""Activations and their gradients: N rows, I features. The elementwise ones may work in place; 8 and 12 bytes/element.

Backward reads the output y where the slope follows from it, the input x for GELU and SiLU.
"""

from __future__ import annotations

from . import sources
from .emitter import ACCESS, THREADS, Emitter, Ref, Scalar

__all__ = [
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]

SHARED = 40 * 1024  # bytes that a row may fill of a block's shared memory, so that five blocks find place

# Lanes per row and packs of 16 bytes per lane, of the kernels that keep whole rows in registers: four packs per lane at
# most, of all arrays together.
IN_REGISTERS = ((1, 1), (4, 1), (16, 1), (32, 1), (32, 2), (32, 4))
SHORT = 512  # packs of a row that a block of 128 threads takes


def kind_of(activation: str) -> int:
    """The number that the kernels know an activation by."""
    return sources.constants("activations.cu", "Activation")[activation]


def forward(e: Emitter, activation: str, x: Ref, y: Ref, alpha: Scalar = 0.0) -> None:
    """Emit y = act(x)."""
    e.launch("nnf_activation", e.span(x), x=x, y=y, n=x.size, kind=kind_of(activation), alpha=alpha)


def backward(e: Emitter, activation: str, saved: Ref | None, dy: Ref, dx: Ref, alpha: Scalar = 0.0) -> None:
    """Emit dx = dy·act'; for the linear activation, a copy, nothing need be saved."""
    kind = kind_of(activation)
    e.launch("nnf_activation_backward", e.span(dy), saved=saved or dy, dy=dy, dx=dx, n=dy.size, kind=kind, alpha=alpha)


def relu(e: Emitter, x: Ref, y: Ref) -> None:
    """y = max(x, 0)"""
    forward(e, "relu", x, y)


def relu_backward(e: Emitter, y: Ref, dy: Ref, dx: Ref) -> None:
    """dx = dy·(y > 0)"""
    backward(e, "relu", y, dy, dx)


def leaky_relu(e: Emitter, x: Ref, y: Ref, *, alpha: Scalar) -> None:
    """y = x where x > 0, else alpha·x"""
    forward(e, "leaky_relu", x, y, alpha)


def leaky_relu_backward(e: Emitter, y: Ref, dy: Ref, dx: Ref, *, alpha: Scalar) -> None:
    """dx = dy where y > 0, else alpha·dy"""
    backward(e, "leaky_relu", y, dy, dx, alpha)


def elu(e: Emitter, x: Ref, y: Ref, *, alpha: Scalar) -> None:
    """y = x where x > 0, else alpha·(eˣ − 1)"""
    forward(e, "elu", x, y, alpha)


def elu_backward(e: Emitter, y: Ref, dy: Ref, dx: Ref, *, alpha: Scalar) -> None:
    """dx = dy where y > 0, else dy·(y + alpha)"""
    backward(e, "elu", y, dy, dx, alpha)


def softplus(e: Emitter, x: Ref, y: Ref) -> None:
    """y = log(1 + eˣ)"""
    forward(e, "softplus", x, y)


def softplus_backward(e: Emitter, y: Ref, dy: Ref, dx: Ref) -> None:
    """dx = dy·(1 − e⁻ʸ)"""
    backward(e, "softplus", y, dy, dx)


def sigmoid(e: Emitter, x: Ref, y: Ref) -> None:
    """y = 1/(1 + e⁻ˣ)"""
    forward(e, "sigmoid", x, y)


def sigmoid_backward(e: Emitter, y: Ref, dy: Ref, dx: Ref) -> None:
    """dx = dy·y·(1 − y)"""
    backward(e, "sigmoid", y, dy, dx)


def tanh(e: Emitter, x: Ref, y: Ref) -> None:
    """y = tanh(x)"""
    forward(e, "tanh", x, y)


def tanh_backward(e: Emitter, y: Ref, dy: Ref, dx: Ref) -> None:
    """dx = dy·(1 − y)·(1 + y)"""
    backward(e, "tanh", y, dy, dx)


def gelu(e: Emitter, x: Ref, y: Ref) -> None:
    """y = x·Φ(x)"""
    forward(e, "gelu", x, y)


def gelu_backward(e: Emitter, x: Ref, dy: Ref, dx: Ref) -> None:
    """dx = dy·(Φ(x) + x·φ(x))"""
    backward(e, "gelu", x, dy, dx)


def silu(e: Emitter, x: Ref, y: Ref) -> None:
    """y = x·σ(x)"""
    forward(e, "silu", x, y)


def silu_backward(e: Emitter, x: Ref, dy: Ref, dx: Ref) -> None:
    """dx = dy·σ(x)·(1 + x·(1 − σ(x)))"""
    backward(e, "silu", x, dy, dx)


def softmax(e: Emitter, x: Ref, y: Ref) -> None:
    """y = eˣ/Σ eˣ along the row"""
    kernel, blocks, kept, shared = _rows(e, "nnf_softmax", x, arrays=1)
    e.launch(kernel, blocks, shared=shared, x=x, y=y, rows=x.shape[0], width=x.shape[1], kept=kept)


def softmax_backward(e: Emitter, y: Ref, dy: Ref, dx: Ref) -> None:
    """dx = y·(dy − Σ dy·y)"""
    kernel, blocks, kept, shared = _rows(e, "nnf_softmax_backward", y, arrays=2)
    e.launch(kernel, blocks, shared=shared, y=y, dy=dy, dx=dx, rows=y.shape[0], width=y.shape[1], kept=kept)


def _rows(e: Emitter, name: str, ref: Ref, arrays: int) -> tuple[str, int, int, int]:
    """Which kernel takes rows of this width, with how many blocks, and what it keeps: elements of each array, bytes."""
    rows, width = ref.shape
    pack = ACCESS // ref.itemsize
    for lanes, packs in IN_REGISTERS:
        if width <= lanes * packs * pack and packs * arrays <= 4:
            return f"{name}_{lanes}x{packs}", e.grid(rows, THREADS // lanes), 0, 0
    threads = 128 if width <= SHORT * pack else 256
    step = threads * pack  # elements that a block takes at once
    kept = min(-(-width // step), SHARED // (arrays * ACCESS * threads)) * step
    return f"{name}_block_{threads}", e.grid(rows, 1), kept, kept * arrays * ref.itemsize
