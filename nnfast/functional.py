"""The ops as public functions: each checks its arguments once, then calls one kernel of the chosen backend.

`backend=` is a name, a Backend object, or None for the current choice. An op that this backend lacks runs on the
reference. Inputs are anything that NumPy or DLPack reads, in any memory layout, and are never changed; outputs are
fresh arrays. Only `*_step`, `clip_by_global_norm` and `random_search_accept` work in place, and say so.

Arrays on an NVIDIA GPU (of CuPy, PyTorch, JAX, …) stay there: by default "cupy" computes on them, on CuPy's current
stream, and the outputs are CuPy's arrays; losses, norms and metrics are floats all the same. Targets and weights are
fetched once per call, for their values are checked on the host. Arrays on the host go to a GPU only with `backend=`.

Dtypes: float32 gives float32 and float64 gives float64. Python lists, integers and booleans take the dtype of the float
arrays beside them, or float64 where there is none. Parameters and activations of different float types are an error;
targets and sample weights are converted to the output's dtype.

The functions stand in `_functional_layers` (dense, dropout, standardize, activations), `_functional_losses` (losses,
metrics) and `_functional_updates` (penalty, clipping, optimizer steps); `apply_op` calls any op by its name.
"""

from __future__ import annotations

from nnfast._functional_call import apply_op
from nnfast._functional_layers import (
    dense,
    dense_backward,
    dropout,
    dropout_backward,
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    softplus,
    softplus_backward,
    standardize,
    standardize_backward,
    tanh,
    tanh_backward,
)
from nnfast._functional_losses import (
    accuracy,
    binary_accuracy,
    binary_cross_entropy,
    categorical_cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    poisson,
    r2_score,
    regression_accuracy,
    sigmoid_binary_cross_entropy,
    softmax_cross_entropy,
    top_k_accuracy,
)
from nnfast._functional_updates import (
    adagrad_step,
    adam_step,
    batch_penalty,
    clip_by_global_norm,
    penalty,
    random_search_accept,
    random_search_propose,
    rmsprop_step,
    sgd_step,
)

__all__ = [
    "accuracy",
    "adagrad_step",
    "adam_step",
    "apply_op",
    "batch_penalty",
    "binary_accuracy",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "clip_by_global_norm",
    "dense",
    "dense_backward",
    "dropout",
    "dropout_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "huber",
    "leaky_relu",
    "leaky_relu_backward",
    "mean_absolute_error",
    "mean_squared_error",
    "penalty",
    "poisson",
    "r2_score",
    "random_search_accept",
    "random_search_propose",
    "regression_accuracy",
    "relu",
    "relu_backward",
    "rmsprop_step",
    "sgd_step",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_binary_cross_entropy",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softplus",
    "softplus_backward",
    "standardize",
    "standardize_backward",
    "tanh",
    "tanh_backward",
    "top_k_accuracy",
]
