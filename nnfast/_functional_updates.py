"""Behind `nnfast.functional`: penalties, clipping and the optimizers' steps.

The steps change parameters and optimizer state in place, arrays of any equal shape and any memory layout; on a GPU they
must be C-contiguous, since nothing is copied. All arguments are checked before anything changes: a read-only array,
another dtype or shape, or two arrays that share memory raise ShapeError, DTypeError or DataError; numbers out of range
raise OptionError. `g` is only read.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnfast._functional_call import BackendLike, execute, following, fresh, read
from nnfast._functional_in_place import in_place
from nnfast._functional_memory import shape_of
from nnfast.devices import adopted, own_memory, takes
from nnfast.errors import DTypeError, OptionError, ShapeError
from nnfast.validation import FLOAT64, Array, convert, flag, host_array, integer, number

__all__ = [
    "adagrad_step",
    "adam_step",
    "batch_penalty",
    "clip_by_global_norm",
    "penalty",
    "random_search_accept",
    "random_search_propose",
    "rmsprop_step",
    "sgd_step",
]

_KEYS = 2**64 - 1


def penalty(p: Any, *, l1: float = 0, l2: float = 0, backend: BackendLike = None) -> tuple[float, Array]:
    """(value, gradient): l1·Σ|p| + l2·Σp², and l1·sign(p) + 2·l2·p with sign(0) = 0. p has any shape; l1, l2 ≥ 0."""
    return _penalty("penalty", backend, p, l1=number("l1", l1, 0), l2=number("l2", l2, 0))


def batch_penalty(
    p: Any, *, normaliser: float, l1: float = 0, l2: float = 0, backend: BackendLike = None
) -> tuple[float, Array]:
    """(value, gradient) of `penalty`, both divided by normaliser > 0, the batch's rows or the sum of their weights.

    Where loss and penalty stand in one sum over all rows, this is what the mean over a batch has of the penalty.
    """
    divisor = number("normaliser", normaliser, 0, low_open=True)
    return _penalty("batch_penalty", backend, p, normaliser=divisor, l1=number("l1", l1, 0), l2=number("l2", l2, 0))


def _penalty(op: str, backend: BackendLike, p: Any, **numbers: float) -> tuple[float, Array]:
    backend, flat, shape = _flat(p, backend)
    total, gradient = np.zeros((), FLOAT64), fresh(flat.shape, flat.dtype, flat, backend)
    gradient[...] = 0
    execute(op, backend, flat, gradient, total, **numbers)
    return float(total), gradient.reshape(shape)


def _flat(p: Any, backend: BackendLike) -> tuple[BackendLike, Array, tuple[int, ...]]:
    """Who computes, p in one row, and its shape."""
    backend = following(backend, {"p": p})
    dtype, arrays = read({"p": p}, backend=backend)
    array = convert("p", arrays["p"], dtype)
    return backend, array.reshape(-1), array.shape


def clip_by_global_norm(g: Any, *, clip_norm: float, backend: BackendLike = None) -> float:
    """g ← g·min(1, clip_norm/‖g‖) in place, ‖g‖ the Euclidean norm over all elements; clip_norm ≥ 0.

    Returns the norm before, taken in float64 (Pascanu et al. 2013).
    """
    limit = number("clip_norm", clip_norm, 0)
    backend = following(backend, {"g": g})
    g = own_memory(g)
    if isinstance(g, np.ndarray):
        norm = _norm(g.view(np.ndarray))
    else:  # of anything else nothing can be clipped
        norm = _norm_on_device(g, backend) if not isinstance(backend, str) and takes(backend, g) else 0.0
    in_place("clip_by_global_norm", backend, {"g": g}, clip_norm=limit)
    return norm


def _norm(g: Array) -> float:
    """‖g‖, scaled by the largest element so that no square overflows."""
    largest = float(np.max(np.abs(g), initial=0)) if g.dtype.kind == "f" else 0.0
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.sum(np.square(g / FLOAT64.type(largest), dtype=FLOAT64))))


def _norm_on_device(g: Any, backend: Any) -> float:
    array = adopted("g", g, backend)
    if array.dtype.kind != "f" or not array.size:
        return 0.0
    largest = float(backend.to_numpy(abs(array).max()))
    if largest == 0 or not np.isfinite(largest):
        return largest
    scaled = array.astype(FLOAT64) / largest
    return largest * math.sqrt(float(backend.to_numpy((scaled * scaled).sum())))


def sgd_step(
    p: Any,
    g: Any,
    v: Any = None,
    *,
    learning_rate: float,
    momentum: float = 0,
    nesterov: bool = False,
    backend: BackendLike = None,
) -> None:
    """v ← momentum·v − learning_rate·g, p ← p + v; with `nesterov` p ← p + momentum·v − learning_rate·g.

    Changes p and v. Without momentum `v` may be None. learning_rate ≥ 0, 0 ≤ momentum ≤ 1.
    The learning rate is inside the velocity, as in scikit-learn, not outside, as in PyTorch.
    """
    scalars = {"learning_rate": _rate(learning_rate), "momentum": number("momentum", momentum, 0, 1)}
    nesterov = flag("nesterov", nesterov)
    if v is None and scalars["momentum"]:
        raise OptionError(f"momentum is {momentum}, which needs v=, an array like p that starts at zeros")
    in_place("sgd_step", backend, {"p": p, "g": g, "v": v}, **scalars, nesterov=nesterov and v is not None)


def adagrad_step(
    p: Any, g: Any, cache: Any, *, learning_rate: float, epsilon: float = 1e-7, backend: BackendLike = None
) -> None:
    """cache ← cache + g², p ← p − learning_rate·g/(√cache + epsilon) (Duchi et al. 2011). Changes p and cache."""
    scalars = {"learning_rate": _rate(learning_rate), "epsilon": _epsilon(epsilon)}
    in_place("adagrad_step", backend, {"p": p, "g": g, "cache": cache}, **scalars)


def rmsprop_step(
    p: Any,
    g: Any,
    cache: Any,
    *,
    learning_rate: float,
    epsilon: float = 1e-7,
    rho: float = 0.9,
    backend: BackendLike = None,
) -> None:
    """cache ← rho·cache + (1 − rho)·g², p ← p − learning_rate·g/(√cache + epsilon) (Hinton 2012).

    Changes p and cache. 0 ≤ rho < 1.
    """
    scalars = {"learning_rate": _rate(learning_rate), "epsilon": _epsilon(epsilon), "rho": _fraction("rho", rho)}
    in_place("rmsprop_step", backend, {"p": p, "g": g, "cache": cache}, **scalars)


def adam_step(
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    *,
    step: int,
    learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float = 0,
    backend: BackendLike = None,
) -> None:
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p − learning_rate·(m̂/(√v̂ + epsilon) + weight_decay·p).

    m̂ = m/(1 − β₁ˢᵗᵉᵖ), v̂ = v/(1 − β₂ˢᵗᵉᵖ): epsilon is added after the correction (Kingma & Ba 2015), and the decay
    is decoupled from the gradient (Loshchilov & Hutter 2019). Changes p, m and v. `step` counts from 1.
    """
    scalars: dict[str, float] = {
        "learning_rate": _rate(learning_rate),
        "step": integer("step", step, 1),
        "beta_1": _fraction("beta_1", beta_1),
        "beta_2": _fraction("beta_2", beta_2),
        "epsilon": _epsilon(epsilon),
        "weight_decay": number("weight_decay", weight_decay, 0),
    }
    in_place("adam_step", backend, {"p": p, "g": g, "m": m, "v": v}, **scalars)


def random_search_propose(
    p: Any, *, key: int, step: int, scale: float, mode: str = "perturb", offset: int = 0, backend: BackendLike = None
) -> Array:
    """A candidate q like p: p + scale·normal (mode "perturb") or scale·normal ("sample").

    The draws are those of candidate `step` under the seed `key`; `offset` is the index of p's first element among all
    parameters.
    """
    if not isinstance(mode, str) or mode not in ("perturb", "sample"):
        raise OptionError(f"mode is {mode!r}; expected 'perturb' or 'sample'")
    scalars = {
        "key": integer("key", key, 0, _KEYS),
        "step": integer("step", step, 0, _KEYS),
        "scale": number("scale", scale, 0),
        "offset": integer("offset", offset, 0),
    }
    backend, flat, shape = _flat(p, backend)
    q = fresh(flat.shape, flat.dtype, flat, backend)
    execute("random_search_propose", backend, flat, q, **scalars, mode=mode)
    return q.reshape(shape)


def random_search_accept(
    p: Any, q: Any, sums: Any, best: Any, *, normaliser: float = 1, backend: BackendLike = None
) -> None:
    """Keep the candidate q if its loss sums[0]/normaliser + sums[1] is below that of `best`.

    If it is: p ← q, best ← sums; if not, or if its loss is NaN: sums ← best. `sums` and `best` are float64, (S,) with
    S ≥ 2. Changes p, sums and best.
    """
    count = number("normaliser", normaliser, 0, low_open=True)
    for name, a in (("sums", sums), ("best", best)):
        if not hasattr(a, "shape") or isinstance(a, type):
            host_array(name, a)
            raise DTypeError(f"{name} is a {type(a).__name__}; it is updated in place, so it must be an array")
    shapes = shape_of(sums), shape_of(best)
    if shapes[0] != shapes[1] or len(shapes[0]) != 1 or shapes[0][0] < 2:
        raise ShapeError(f"sums has shape {shapes[0]} and best {shapes[1]}; expected both (S,), S at least 2")
    in_place("random_search_accept", backend, {"p": p, "q": q, "sums": sums, "best": best}, normaliser=count)


def _rate(value: Any) -> float:
    return number("learning_rate", value, 0)


def _epsilon(value: Any) -> float:
    return number("epsilon", value, 0)


def _fraction(name: str, value: Any) -> float:
    return number(name, value, 0, 1, high_open=True)
