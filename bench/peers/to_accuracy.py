"""How long a peer trains until 97 % of scikit-learn's held-out digits are right. Runs in that peer's own process.

Training goes epoch by epoch, as its end is not known before. A call for every epoch costs nnfast and scikit-learn,
which check their arguments, more than one call for many, and JAX the way into its compiled loop; that stays in the
figure. Drawing row orders is on nobody's clock but nnfast's, measuring the accuracy on nobody's.
"""

from __future__ import annotations

import functools
import importlib
import time
from typing import Any

from cases.digits import TARGET, accuracy, digits

__all__ = ["timed"]


_data = functools.cache(digits)
_warm: dict[
    tuple[str, tuple[Any, ...]], tuple[Any, float]
] = {}  # a trainer that has compiled, and the seconds that took


def timed(module: str, args: tuple[Any, ...], limit_epochs: int) -> dict[str, Any]:
    """Train `module.trainer(case, *args)` to TARGET, in at most so many epochs; `epochs` is None if that is too few.

    `seconds` are those of the training alone, `first` those of its first epoch, `compile` those of making a trainer and
    of a first epoch that is thrown away. Who compiles begins again with the same trainer, the others with a fresh one.
    """
    case, X, y = _data()
    if (module, args) not in _warm:
        begin = time.perf_counter()
        first = importlib.import_module(module).trainer(case, *args)
        making = time.perf_counter() - begin
        _warm[module, args] = first, making + _epoch(first)
    warm_up, compiling = _warm[module, args]
    trained = _begin_again(warm_up) or importlib.import_module(module).trainer(case, *args)
    if module == "peers.scikit_learn":
        _go_on_with_moments(trained)

    seconds: list[float] = []
    accuracies: list[float] = []
    while len(seconds) < limit_epochs and (not accuracies or accuracies[-1] < TARGET):
        seconds.append(_epoch(trained))
        accuracies.append(accuracy(trained.results(), X, y))
    return {
        "epochs": len(seconds) if accuracies[-1] >= TARGET else None,
        "seconds": sum(seconds),
        "accuracy": accuracies[-1],
        "first": seconds[0],
        "accuracies": accuracies,
        "compile": compiling,
    }


def _begin_again(warm_up: Any) -> Any:
    """The same trainer at its start, what it has compiled kept; None for those who compile nothing."""
    if not hasattr(warm_up, "again"):
        return None
    warm_up.again()
    return warm_up


def _epoch(trained: Any) -> float:
    trained.prepare(1)
    begin = time.perf_counter()
    trained.run(1)
    return time.perf_counter() - begin


def _go_on_with_moments(trained: Any) -> None:
    """scikit-learn's `fit` begins with fresh moments of Adam; epoch by epoch it takes `partial_fit`, which does not."""
    model = trained.model
    del model._optimizer  # it has seen the fit that only made the arrays
    model.fit = model.partial_fit
