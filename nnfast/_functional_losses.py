"""Behind `nnfast.functional`: losses with their gradients, and metrics.

Dimensions: N rows, O outputs (or classes). Sums are taken in float64. Every gradient is a fresh array of the output's
dtype, and inputs are never changed. NaN and inf in the output propagate; in targets and weights they are errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast._functional_call import BackendLike, execute, following, fresh, read
from nnfast.errors import OptionError
from nnfast.protocol import OPS
from nnfast.validation import FLOAT64, Array, features, flag, integer, labels, number, targets, weights

__all__ = [
    "accuracy",
    "binary_accuracy",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "poisson",
    "r2_score",
    "regression_accuracy",
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
    "top_k_accuracy",
]

_Bounds = tuple[float | None, float | None]
_UNIT: _Bounds = (0, 1)
_ANY: _Bounds = (None, None)

# All losses share these. Arguments: `y` is either class labels, (N,) integers or (N, O) rows that sum to 1, or real
# targets of exactly the output's shape; `sample_weight` is (N,), at least 0. They are converted to the output's dtype.
# Returned: the mean Σ wₙ·lossₙ/Σ wₙ as a float, or with `per_sample` the N losses lossₙ, unweighted, as an array; and
# the gradient of that mean with respect to the output, (N, O). Where the output lies on a GPU, these arrays do too; the
# targets and weights may be there or on the host.
# Raised: ShapeError, DTypeError, OptionError, and DataError for no rows, labels out of range, or NaN in targets.


def softmax_cross_entropy(
    logits: Any,
    y: Any,
    *,
    label_smoothing: float = 0,
    sample_weight: Any = None,
    per_sample: bool = False,
    backend: BackendLike = None,
) -> tuple[float | Array, Array]:
    """(loss, dlogits): lossₙ = −Σ q·log softmax(logits), gradient wₙ/Σw·(softmax(logits) − q).

    logits (N, O); y class labels; q = (1 − label_smoothing)·y + label_smoothing/O (Szegedy et al. 2016), and
    0 ≤ label_smoothing < 1. Computed through the shifted log-sum-exp: no overflow, no saturation.
    """
    smoothing = number("label_smoothing", label_smoothing, 0, 1, high_open=True)
    given = _given("softmax_cross_entropy", backend, "logits", logits, y, sample_weight)
    return _loss("softmax_cross_entropy", given, per_sample, label_smoothing=smoothing)


def sigmoid_binary_cross_entropy(
    logits: Any, y: Any, *, sample_weight: Any = None, per_sample: bool = False, backend: BackendLike = None
) -> tuple[float | Array, Array]:
    """(loss, dlogits): lossₙ = mean over outputs of log(1 + eᶻ) − y·z, z the logits (N, O), y (N, O) in [0, 1].

    The gradient is wₙ/Σw·(sigmoid(z) − y)/O, and does not vanish where the sigmoid saturates.
    """
    given = _given("sigmoid_binary_cross_entropy", backend, "logits", logits, y, sample_weight, _UNIT)
    return _loss("sigmoid_binary_cross_entropy", given, per_sample)


def categorical_cross_entropy(
    output: Any, y: Any, *, sample_weight: Any = None, per_sample: bool = False, backend: BackendLike = None
) -> tuple[float | Array, Array]:
    """(loss, doutput): lossₙ = −Σ q·log p, p the output (N, O) clipped to [1e-7, 1 − 1e-7], y class labels q.

    No loss exceeds 16.118 = −log 1e-7; `softmax_cross_entropy` has no such limit.
    """
    given = _given("categorical_cross_entropy", backend, "output", output, y, sample_weight)
    return _loss("categorical_cross_entropy", given, per_sample)


def binary_cross_entropy(
    output: Any, y: Any, *, sample_weight: Any = None, per_sample: bool = False, backend: BackendLike = None
) -> tuple[float | Array, Array]:
    """(loss, doutput): lossₙ = mean over outputs of −y·log p − (1 − y)·log(1 − p), y (N, O) in [0, 1].

    p is the output (N, O) clipped to [1e-7, 1 − 1e-7]; `sigmoid_binary_cross_entropy` needs no clipping.
    """
    given = _given("binary_cross_entropy", backend, "output", output, y, sample_weight, _UNIT)
    return _loss("binary_cross_entropy", given, per_sample)


def mean_squared_error(
    output: Any, y: Any, *, sample_weight: Any = None, per_sample: bool = False, backend: BackendLike = None
) -> tuple[float | Array, Array]:
    """(loss, doutput): lossₙ = mean over outputs of (output − y)², both (N, O); gradient wₙ/Σw·2·(output − y)/O."""
    given = _given("mean_squared_error", backend, "output", output, y, sample_weight)
    return _loss("mean_squared_error", given, per_sample)


def mean_absolute_error(
    output: Any, y: Any, *, sample_weight: Any = None, per_sample: bool = False, backend: BackendLike = None
) -> tuple[float | Array, Array]:
    """(loss, doutput): lossₙ = mean over outputs of |output − y|, both (N, O); gradient wₙ/Σw·sign(output − y)/O."""
    given = _given("mean_absolute_error", backend, "output", output, y, sample_weight)
    return _loss("mean_absolute_error", given, per_sample)


def huber(
    output: Any,
    y: Any,
    *,
    delta: float = 1.0,
    sample_weight: Any = None,
    per_sample: bool = False,
    backend: BackendLike = None,
) -> tuple[float | Array, Array]:
    """(loss, doutput): lossₙ = mean over outputs of e²/2 where |e| ≤ delta, else delta·(|e| − delta/2) (Huber 1964).

    e = output − y, both (N, O); delta > 0. The gradient is wₙ/Σw·clip(e, −delta, delta)/O.
    """
    limit = number("delta", delta, 0, low_open=True)
    given = _given("huber", backend, "output", output, y, sample_weight)
    return _loss("huber", given, per_sample, delta=limit)


def poisson(
    output: Any, y: Any, *, sample_weight: Any = None, per_sample: bool = False, backend: BackendLike = None
) -> tuple[float | Array, Array]:
    """(loss, doutput): lossₙ = mean over outputs of eᶻ − y·z, z the output (N, O), log of the rate; y (N, O) ≥ 0.

    The negative log-likelihood without log y!, which no output changes. The gradient is wₙ/Σw·(eᶻ − y)/O.
    """
    given = _given("poisson", backend, "output", output, y, sample_weight, (0, None))
    return _loss("poisson", given, per_sample)


# What every loss and metric reads, checked: output, targets and weights, the latter two on the host; and who computes.
_Given = tuple[Array, Array, Array | None, BackendLike]


def _given(
    op: str, backend: BackendLike, shown: str, output: Any, y: Any, sample_weight: Any, bounds: _Bounds = _ANY
) -> _Given:
    follow = {"y": y, "sample_weight": sample_weight}
    backend = following(backend, {shown: output}, follow)
    dtype, arrays = read({shown: output}, follow, backend)
    z = features(shown, arrays[shown], None, dtype, backend=None if isinstance(backend, str) else backend)
    rows, width = z.shape
    if OPS[op].args[1].dtype == "label":
        target = labels("y", arrays.get("y"), rows, width, dtype)
    else:
        target = targets("y", arrays.get("y"), rows, width, dtype, *bounds)
    return z, target, weights("sample_weight", arrays.get("sample_weight"), rows, dtype), backend


def _total(given: _Given) -> float:
    """The sum of all weights."""
    return float(len(given[0]) if given[2] is None else given[2].sum(dtype=FLOAT64))


def _loss(op: str, given: _Given, per_sample: bool, **scalars: float) -> tuple[float | Array, Array]:
    z, target, weight, backend = given
    normaliser = _total(given)
    total, dz = np.zeros((), FLOAT64), fresh(z.shape, z.dtype, z, backend)
    losses = fresh(z.shape[:1], z.dtype, z, backend) if flag("per_sample", per_sample) else None
    execute(op, backend, z, target, weight, total, dz, losses, normaliser=normaliser, **scalars)
    return (float(total) / normaliser if losses is None else losses), dz


# Metrics return a float between 0 and 1 (`r2_score`: at most 1), weighted as the losses are, and raise the same errors.
# A row with a NaN in it never counts as a hit.


def accuracy(output: Any, y: Any, *, sample_weight: Any = None, backend: BackendLike = None) -> float:
    """The share of rows whose largest output (N, O) is that of the class label y. Of equal ones the first counts."""
    return _metric("accuracy", _given("accuracy", backend, "output", output, y, sample_weight))


def top_k_accuracy(output: Any, y: Any, *, k: int, sample_weight: Any = None, backend: BackendLike = None) -> float:
    """The share of rows where fewer than k outputs stand before that of the label; 1 ≤ k ≤ O."""
    k = integer("k", k, 1)
    given = _given("top_k_accuracy", backend, "output", output, y, sample_weight)
    if k > given[0].shape[1]:
        raise OptionError(f"k is {k}, but the output has {given[0].shape[1]} columns; expected at most that many")
    return _metric("top_k_accuracy", given, k=k)


def binary_accuracy(
    output: Any, y: Any, *, threshold: float = 0.5, sample_weight: Any = None, backend: BackendLike = None
) -> float:
    """The share of outputs (N, O) where (output > threshold) = (y > 1/2), y (N, O) in [0, 1]. Logits: threshold 0."""
    limit = number("threshold", threshold)
    given = _given("binary_accuracy", backend, "output", output, y, sample_weight, _UNIT)
    return _metric("binary_accuracy", given, threshold=limit)


def regression_accuracy(
    output: Any, y: Any, *, precision: float, sample_weight: Any = None, backend: BackendLike = None
) -> float:
    """The share of outputs (N, O) with |output − y| ≤ precision, so an exact answer counts with precision 0 too."""
    limit = number("precision", precision, 0)
    given = _given("regression_accuracy", backend, "output", output, y, sample_weight)
    return _metric("regression_accuracy", given, precision=limit)


def _metric(op: str, given: _Given, **scalars: float) -> float:
    total = np.zeros((), FLOAT64)
    execute(op, given[3], *given[:3], total, **scalars)
    return float(total) / _total(given)


def r2_score(output: Any, y: Any, *, sample_weight: Any = None, backend: BackendLike = None) -> float:
    """1 − Σw(y − output)²/Σw(y − ȳ)², averaged over the outputs; both (N, O).

    An output with constant targets has no spread to explain: it scores 1 where it is exact and 0 where it is not.
    """
    given = _given("r2_moments", backend, "output", output, y, sample_weight)
    moments = np.empty((3, given[0].shape[1]), FLOAT64)
    execute("r2_moments", given[3], *given[:3], moments)
    mean, spread, residual = moments
    return float(r2_of_moments(mean, spread, residual, _total(given)))


def r2_of_moments(mean: Array, spread: Array, residual: Array, weight: Any) -> Array:
    """R² from Σwy/Σw, Σw(y − ȳ)² and Σw(y − output)² of each output (last axis, averaged) and Σw."""
    # The mean of equal float64 numbers may be a few last bits off them: that is no spread.
    constant = spread <= weight * (16 * np.finfo(FLOAT64).eps * mean) ** 2
    explained = 1 - residual / np.where(constant, 1, spread)
    return np.asarray(np.where(constant & ~np.isnan(residual), residual == 0, explained).mean(axis=-1))
