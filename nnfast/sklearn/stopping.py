"""When epochs end: scikit-learn's rules for tol, n_iter_no_change and early stopping.

`loss_curve_`, `best_loss_`, `validation_scores_` and `best_validation_score_` of the estimator are the record that the
rules look at.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from nnfast.sklearn.descent import Descent
from nnfast.training.interrupts import Interrupts

__all__ = ["begin_record", "continue_record", "descend"]


def begin_record(estimator: Any) -> None:
    """An empty record."""
    e = estimator
    e.loss_curve_ = []
    e._no_improvement_count = 0
    e.best_loss_ = e.validation_scores_ = e.best_validation_score_ = None
    continue_record(e)


def continue_record(estimator: Any) -> None:
    """Add what is missing in the record of an earlier fit, by another solver or with other things to watch."""
    e = estimator
    if not hasattr(e, "loss_curve_"):
        begin_record(e)
    if not e.early_stopping and e.best_loss_ is None:
        e.best_loss_ = np.inf
    if (e.early_stopping or e.validation_data is not None) and e.validation_scores_ is None:
        e.validation_scores_, e.best_validation_score_ = [], -np.inf


def descend(estimator: Any, descent: Descent, score: Callable[[], float] | None, *, incremental: bool) -> None:
    """One epoch, or at most `max_iter`, with `score` after each, if there is one. Ctrl-C ends them with a warning."""
    interrupts, most = Interrupts(), 1 if incremental else estimator.max_iter
    best: Any = None
    estimator.n_iter_ = 0
    try:
        with interrupts.held_back():
            while estimator.n_iter_ < most:
                count = _until_a_decision(estimator, descent, score, most)
                for loss in descent.run(count, estimator.t_, interrupts.heed):
                    _note(estimator, descent, loss)
                if score is not None and _note_score(estimator, score()) and estimator.early_stopping:
                    best = np.array(descent.network.model.parameters)
                if _is_over(estimator, descent):
                    break
            else:
                if not incremental:
                    _warn(estimator)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=5)
    if best is not None:
        descent.network.model.parameters = best


def _until_a_decision(estimator: Any, descent: Descent, score: Any, most: int) -> int:
    """How many epochs may pass before the rules can have anything to say."""
    if score is not None:
        return 1
    patience = estimator.n_iter_no_change - estimator._no_improvement_count + 1
    return int(max(1, min(most - estimator.n_iter_, patience, descent.at_once())))


def _note(estimator: Any, descent: Descent, loss: float) -> None:
    """The loss of an epoch."""
    e = estimator
    e.n_iter_ += 1
    e.t_ += descent.data.rows
    e.loss_ = loss
    e.loss_curve_.append(loss)
    if e.verbose:
        print(f"Iteration {e.n_iter_}, loss = {loss:.8f}")
    if not e.early_stopping:
        e._no_improvement_count = e._no_improvement_count + 1 if loss > e.best_loss_ - e.tol else 0
        e.best_loss_ = min(e.best_loss_, loss)


def _note_score(estimator: Any, score: float) -> bool:
    """The validation score after an epoch; whether it is the best so far."""
    e = estimator
    e.validation_scores_.append(score)
    if e.verbose:
        print(f"Validation score: {score:f}")
    if e.early_stopping:
        e._no_improvement_count = e._no_improvement_count + 1 if score < e.best_validation_score_ + e.tol else 0
    better = score > e.best_validation_score_
    if better:
        e.best_validation_score_ = score
    return bool(better)


def _is_over(estimator: Any, descent: Descent) -> bool:
    """Whether training has not improved for too long, and no smaller learning rate is to be tried."""
    e = estimator
    if e._no_improvement_count <= e.n_iter_no_change:
        return False
    optimizer = descent.network.optimizer
    goes_on = optimizer.slow_down()
    if e.verbose:
        watched = "Validation score" if e.early_stopping else "Training loss"
        then = f"Setting learning rate to {optimizer.current_learning_rate:f}" if goes_on else "Stopping."
        print(f"{watched} did not improve more than tol={e.tol:f} for {e.n_iter_no_change} consecutive epochs. {then}")
    if goes_on:
        e._no_improvement_count = 0
    return not goes_on


def _warn(estimator: Any) -> None:
    warnings.warn(
        f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't "
        "converged yet.",
        ConvergenceWarning,
        stacklevel=6,
    )
