"""solver="lbfgs": SciPy's L-BFGS-B over the model's flat parameters, all rows at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize as scipy_minimize
from sklearn.exceptions import ConvergenceWarning

from nnfast.sklearn.network import Network, scales
from nnfast.training.batches import Data, make_job

__all__ = ["minimize"]

Array = np.ndarray[Any, Any]


def minimize(estimator: Any, network: Network, data: Data, constant: Array | None) -> tuple[float, int]:
    """Minimise loss plus penalty; the value found, and how many iterations that took."""
    model, most = network.model, estimator.max_iter
    found = scipy_minimize(
        _objective(network, data, estimator.alpha, constant),
        np.asarray(model.parameters, np.float64),
        method="L-BFGS-B",
        jac=True,
        callback=_Progress() if estimator.verbose else None,
        options={"maxfun": estimator.max_fun, "maxiter": most, "gtol": estimator.tol},
    )
    model.parameters = found.x
    if found.status != 0:
        warnings.warn(
            f"lbfgs ended after {found.nit} iterations without having converged ({found.message}); "
            "raise max_iter or max_fun, or scale the data",
            ConvergenceWarning,
            stacklevel=5,
        )
    return float(found.fun), min(int(found.nit), most)


def _objective(network: Network, data: Data, alpha: float, constant: Array | None) -> Callable[[Array], Any]:
    """The function of flat parameters that gives loss and gradient."""
    model = network.model
    of_loss, of_gradient = scales(network.architecture.out_activation, network.architecture.widths[-1])
    weight = float(data.batch_weights(None)[0])
    network.penalize(alpha)
    program, runner = model._programs.runner("gradient")
    scalars = model._programs.scalars(program)
    job = make_job(model, data, scalars, normalisers=np.array([weight / of_gradient]))
    added = 0.0
    if constant is not None:
        added = float(np.average(constant, weights=data.weight))

    def loss_and_gradient(flat: Array) -> tuple[float, Array]:
        model.parameters = flat
        sums = model._programs.run(runner, job).sums[0]
        gradient = np.array(model.backend.to_numpy(model._buffers.gradients), np.float64)
        return float(sums[0]) * of_loss / weight + float(sums[1]) + added, gradient

    return loss_and_gradient


class _Progress:
    """Says the loss after each iteration."""

    def __init__(self) -> None:
        self._iteration = 0

    def __call__(self, intermediate_result: Any) -> None:
        self._iteration += 1
        print(f"Iteration {self._iteration}, loss = {intermediate_result.fun:.8f}")
