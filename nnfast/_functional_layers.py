"""Behind `nnfast.functional`: dense, dropout, standardize and the activations.

Dimensions: N rows, I inputs, O outputs. Every output is a fresh array, beside the inputs where these lie on a GPU, and
inputs are never changed.
"""

from __future__ import annotations

from typing import Any

from nnfast._functional_call import BackendLike, execute, following, fresh, match, read
from nnfast.errors import OptionError, ShapeError, UnknownNameError
from nnfast.lowering import FUSED_ACTIVATIONS
from nnfast.protocol import OPS
from nnfast.validation import Array, convert, features, integer, number

__all__ = [
    "dense",
    "dense_backward",
    "dropout",
    "dropout_backward",
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
    "standardize",
    "standardize_backward",
    "tanh",
    "tanh_backward",
]

_COMPOSED = ("gelu", "silu", "softmax")
_ALPHA = {"leaky_relu": 0.01, "elu": 1.0}
_ELEMENTS = 2**34  # a dropout counter holds element/4 in 32 bits


def dense(
    x: Any, w: Any, b: Any, *, activation: str | None = None, alpha: float | None = None, backend: BackendLike = None
) -> Array:
    """y = act(x·w + b), with x (N, I), w (I, O), b (O,), y (N, O).

    `activation` is the name of any activation here, None or "linear" for none; `alpha` is that of "leaky_relu"
    (0.01) or "elu" (1.0). N may be 0. NaN and inf propagate. Raises ShapeError, DTypeError, UnknownNameError.
    """
    name, alpha = _activation(activation, alpha)
    backend = following(backend, {"x": x, "w": w, "b": b})
    arrays = _dense_arrays(backend, x=x, w=w, b=b)
    y = fresh((arrays["x"].shape[0], arrays["w"].shape[1]), arrays["x"].dtype, arrays["x"], backend)
    fused = "linear" if name in _COMPOSED else name
    execute("dense", backend, arrays["x"], arrays["w"], arrays["b"], y, activation=fused, alpha=alpha)
    return _forward(name, y, backend) if name in _COMPOSED else y


def dense_backward(
    x: Any,
    w: Any,
    dy: Any,
    *,
    y: Any = None,
    b: Any = None,
    activation: str | None = None,
    alpha: float | None = None,
    backend: BackendLike = None,
) -> tuple[Array, Array, Array]:
    """(dx, dw, db) of `dense`: dz = dy·act'(y), dx = dz·wᵀ, dw = xᵀ·dz, db = Σₙ dz.

    x (N, I), w (I, O), dy (N, O), and with an activation y (N, O), what `dense` gave; or `b` (O,) instead, and it is
    computed again. "gelu" and "silu" need `b`: their derivative depends on what came before them.
    With N = 0 dw and db are 0. Raises ShapeError, DTypeError, OptionError.
    """
    name, alpha = _activation(activation, alpha)
    needed = "b" if name in ("gelu", "silu") else "y"
    if name != "linear" and b is None and (y is None or needed == "b"):
        other = "" if needed == "b" else ", what dense returned, or b= to compute it again"
        raise OptionError(f"dense_backward with activation {name!r} needs {needed}={other}")
    backend = following(backend, {"x": x, "w": w, "dy": dy, "y": y, "b": b})
    optional = {name: a for name, a in (("y", y), ("b", b)) if a is not None}
    a = _dense_arrays(backend, x=x, w=w, dy=dy, **optional)
    x, w, dy = a["x"], a["w"], a["dy"]
    if name in ("gelu", "silu"):
        dy = _backward(name, dense(x, w, a["b"], backend=backend), dy, backend)
    elif name != "linear" and "y" not in a:
        a["y"] = dense(x, w, a["b"], activation=name, alpha=alpha if name in _ALPHA else None, backend=backend)
    if name == "softmax":
        dy = _backward(name, a["y"], dy, backend)
    fused = "linear" if name in _COMPOSED else name
    dx, dw, db = (fresh(shape, x.dtype, x, backend) for shape in (x.shape, w.shape, w.shape[1:]))
    saved, dz = (None, None) if fused == "linear" else (a["y"], fresh(dy.shape, x.dtype, x, backend))
    execute("dense_backward", backend, x, w, saved, dy, dz, dx, dw, db, activation=fused, alpha=alpha)
    return dx, dw, db


def _dense_arrays(backend: BackendLike, **given: Any) -> dict[str, Array]:
    """The arrays of a dense op, checked against each other and as a kernel takes them."""
    shapes = {"x": ("N", "I"), "w": ("I", "O"), "b": ("O",), "y": ("N", "O"), "dy": ("N", "O")}
    dtype, arrays = read(given, backend=backend)
    dims: dict[str, int] = {}
    for name, a in arrays.items():
        match(name, a, shapes[name], dims)
    return {name: convert(name, a, dtype) for name, a in arrays.items()}


def _activation(name: str | None, alpha: float | None) -> tuple[str, float]:
    name = "linear" if name is None else name
    if not isinstance(name, str) or name not in ("linear", *FUSED_ACTIVATIONS, *_COMPOSED):
        raise UnknownNameError("activation", name, ("linear", *FUSED_ACTIVATIONS, *_COMPOSED))
    if alpha is None:
        return name, _ALPHA.get(name, 0.0)
    if name not in _ALPHA:
        raise OptionError(f"alpha is given, but the activation {name!r} has none; leave it out")
    return name, number("alpha", alpha, 0)


def dropout(
    x: Any, *, rate: float, key: int, step: int = 1, layer: int = 0, first_row: int = 0, backend: BackendLike = None
) -> Array:
    """y = x·mask/(1 − rate), x and y (N, I). Each element survives with probability 1 − rate, 0 ≤ rate < 1.

    The mask comes from Philox4x32-10 (Salmon et al. 2011) alone: key is the seed, and the counter is made of the
    element's number (counted from row `first_row`), `layer` and `step`. Same numbers, same mask, on every backend.
    Raises ShapeError, DTypeError, OptionError.
    """
    return _dropout("dropout", "x", x, backend, rate, key, step, layer, first_row)


def dropout_backward(
    dy: Any, *, rate: float, key: int, step: int = 1, layer: int = 0, first_row: int = 0, backend: BackendLike = None
) -> Array:
    """dx = dy·mask/(1 − rate), dy and dx (N, I), with the mask that `dropout` draws from the same numbers."""
    return _dropout("dropout_backward", "dy", dy, backend, rate, key, step, layer, first_row)


def _dropout(
    op: str, name: str, a: Any, backend: BackendLike, rate: float, key: int, step: int, layer: int, first_row: int
) -> Array:
    scalars = {
        "rate": number("rate", rate, 0, 1, high_open=True),
        "key": integer("key", key, 0, 2**64 - 1),
        "step": integer("step", step, 0, 2**64 - 1),
        "layer": integer("layer", layer, 0, 2**32 - 1),
        "first_row": integer("first_row", first_row, 0),
    }
    backend = following(backend, {name: a})
    array = _rows(name, a, backend)
    if (scalars["first_row"] + array.shape[0]) * array.shape[1] > _ELEMENTS:
        raise ShapeError(
            f"{name} has shape {array.shape} from row {first_row} on; dropout numbers at most 2**34 elements"
        )
    out = fresh(array.shape, array.dtype, array, backend)
    execute(op, backend, array, out, **scalars)
    return out


def standardize(x: Any, mean: Any, std: Any, *, backend: BackendLike = None) -> Array:
    """y = (x − mean)/std, with x and y (N, I), mean and std (I,). N may be 0.

    The values of `std` are not looked at: where it is 0 the quotient is inf or NaN, as in NumPy. Raises ShapeError,
    DTypeError.
    """
    return _scaled("standardize", {"x": x, "mean": mean, "std": std}, backend)


def standardize_backward(dy: Any, std: Any, *, backend: BackendLike = None) -> Array:
    """dx = dy/std, with dy and dx (N, I), std (I,)."""
    return _scaled("standardize_backward", {"dy": dy, "std": std}, backend)


def _scaled(op: str, given: dict[str, Any], backend: BackendLike) -> Array:
    """An op of rows, which come first, and of vectors as long as they."""
    backend = following(backend, given)
    dtype, arrays = read(given, backend=backend)
    dims: dict[str, int] = {}
    for arg in OPS[op].args[:-1]:
        match(arg.name, arrays[arg.name], arg.shape, dims)
    rows, *vectors = (convert(name, a, dtype) for name, a in arrays.items())
    out = fresh(rows.shape, dtype, rows, backend)
    execute(op, backend, rows, *vectors, out)
    return out


def _rows(name: str, a: Any, backend: BackendLike) -> Array:
    dtype, arrays = read({name: a}, backend=backend)
    place = None if isinstance(backend, str) else backend
    return features(name, arrays[name], None, dtype, allow_empty=True, backend=place)


def _forward(op: str, x: Any, backend: BackendLike, **scalars: float) -> Array:
    backend = following(backend, {"x": x})
    array = _rows("x", x, backend)
    y = fresh(array.shape, array.dtype, array, backend)
    execute(op, backend, array, y, **scalars)
    return y


def _backward(name: str, saved: Any, dy: Any, backend: BackendLike, **scalars: float) -> Array:
    op = f"{name}_backward"
    given = OPS[op].args[0].name
    backend = following(backend, {given: saved, "dy": dy})
    dtype, arrays = read({given: saved, "dy": dy}, backend=backend)
    dims: dict[str, int] = {}
    for argument, a in arrays.items():
        match(argument, a, ("N", "I"), dims)
    dx = fresh(tuple(dims.values()), dtype, arrays["dy"], backend)
    execute(op, backend, *(convert(argument, a, dtype) for argument, a in arrays.items()), dx, **scalars)
    return dx


# Activations: x, y, dy, dx are (N, I), and N may be 0. NaN propagates. All raise ShapeError and DTypeError.
# A backward function reads what the derivative needs: the output y where that is enough, else the input x.


def relu(x: Any, *, backend: BackendLike = None) -> Array:
    """y = max(x, 0)."""
    return _forward("relu", x, backend)


def relu_backward(y: Any, dy: Any, *, backend: BackendLike = None) -> Array:
    """dx = dy where y > 0, else 0; y is what `relu` returned (x does as well)."""
    return _backward("relu", y, dy, backend)


def leaky_relu(x: Any, *, alpha: float = 0.01, backend: BackendLike = None) -> Array:
    """y = x if x > 0 else alpha·x, alpha ≥ 0 (Maas et al. 2013)."""
    return _forward("leaky_relu", x, backend, alpha=number("alpha", alpha, 0))


def leaky_relu_backward(y: Any, dy: Any, *, alpha: float = 0.01, backend: BackendLike = None) -> Array:
    """dx = dy where y > 0, else alpha·dy; y is what `leaky_relu` returned."""
    return _backward("leaky_relu", y, dy, backend, alpha=number("alpha", alpha, 0))


def elu(x: Any, *, alpha: float = 1.0, backend: BackendLike = None) -> Array:
    """y = x if x > 0 else alpha·(eˣ − 1), alpha ≥ 0 (Clevert et al. 2016)."""
    return _forward("elu", x, backend, alpha=number("alpha", alpha, 0))


def elu_backward(y: Any, dy: Any, *, alpha: float = 1.0, backend: BackendLike = None) -> Array:
    """dx = dy where y > 0, else dy·(y + alpha); y is what `elu` returned."""
    return _backward("elu", y, dy, backend, alpha=number("alpha", alpha, 0))


def softplus(x: Any, *, backend: BackendLike = None) -> Array:
    """y = log(1 + eˣ), without overflow for large x."""
    return _forward("softplus", x, backend)


def softplus_backward(y: Any, dy: Any, *, backend: BackendLike = None) -> Array:
    """dx = dy·(1 − e⁻ʸ); y is what `softplus` returned."""
    return _backward("softplus", y, dy, backend)


def sigmoid(x: Any, *, backend: BackendLike = None) -> Array:
    """y = 1/(1 + e⁻ˣ), without overflow on either side."""
    return _forward("sigmoid", x, backend)


def sigmoid_backward(y: Any, dy: Any, *, backend: BackendLike = None) -> Array:
    """dx = dy·y·(1 − y); y is what `sigmoid` returned."""
    return _backward("sigmoid", y, dy, backend)


def tanh(x: Any, *, backend: BackendLike = None) -> Array:
    """y = tanh(x)."""
    return _forward("tanh", x, backend)


def tanh_backward(y: Any, dy: Any, *, backend: BackendLike = None) -> Array:
    """dx = dy·(1 − y²); y is what `tanh` returned."""
    return _backward("tanh", y, dy, backend)


def gelu(x: Any, *, backend: BackendLike = None) -> Array:
    """y = x·Φ(x), Φ the normal distribution function, exact and not the tanh form (Hendrycks & Gimpel 2016)."""
    return _forward("gelu", x, backend)


def gelu_backward(x: Any, dy: Any, *, backend: BackendLike = None) -> Array:
    """dx = dy·(Φ(x) + x·φ(x)), φ the normal density; x is what `gelu` was given."""
    return _backward("gelu", x, dy, backend)


def silu(x: Any, *, backend: BackendLike = None) -> Array:
    """y = x·σ(x), σ(x) = 1/(1 + e⁻ˣ) (Elfwing et al. 2017; also known as swish)."""
    return _forward("silu", x, backend)


def silu_backward(x: Any, dy: Any, *, backend: BackendLike = None) -> Array:
    """dx = dy·(σ(x) + x·σ(x)·(1 − σ(x))); x is what `silu` was given."""
    return _backward("silu", x, dy, backend)


def softmax(x: Any, *, backend: BackendLike = None) -> Array:
    """y = eˣ/Σ eˣ along each row, the row's maximum subtracted first. A row with a NaN becomes NaN."""
    return _forward("softmax", x, backend)


def softmax_backward(y: Any, dy: Any, *, backend: BackendLike = None) -> Array:
    """dx = y·(dy − Σ dy·y) along each row; y is what `softmax` returned."""
    return _backward("softmax", y, dy, backend)
