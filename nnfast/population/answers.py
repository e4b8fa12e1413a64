"""What a population answers: of all models, or of all as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError, OptionError
from nnfast.losses import BinaryCrossEntropy
from nnfast.population.data import PopulationData
from nnfast.population.running import Measuring, make_job, run
from nnfast.training.batches import evaluation_rows
from nnfast.validation import choice, integer

if TYPE_CHECKING:
    from nnfast.population.population import Population

__all__ = ["Ensemble", "ensemble", "evaluate", "predict"]

Array = np.ndarray[Any, Any]
WAYS = ("all", "mean", "vote", "best")


def evaluate(population: Population, X: Any, y: Any, batch_size: int | None, sample_weight: Any) -> dict[str, Array]:
    """See `Population.evaluate`."""
    pattern = population.pattern
    pattern._needs("evaluate")
    program, _ = population._runner("evaluate")
    size = evaluation_rows(program) if batch_size is None else batch_size
    data = PopulationData(pattern, population.n, X, y, sample_weight, size)
    return Measuring(population, data).now(np.arange(population.n))


def predict(population: Population, X: Any, batch_size: int | None, how: str) -> Any:
    """See `Population.predict`."""
    choice("how", how, WAYS)
    if how == "best":
        return population.best().predict(X, batch_size)
    if how == "vote":
        _check_vote(population)
    program, runner = population._runner("predict")
    size = evaluation_rows(program) if batch_size is None else integer("batch_size", batch_size, 1)
    pattern, n = population.pattern, population.n
    data = PopulationData(pattern, n, X, None, None, size, targets=False)
    if how != "all" and data.own:
        raise OptionError(f"how={how!r} joins answers to the same rows, and X holds rows of their own; use how='all'")
    output = pattern.backend.empty((n, data.rows, pattern.n_outputs), pattern.dtype)
    job = make_job(population, program, np.arange(n), data, None, output=output, steps=data.steps)
    run(population, runner, job)
    return output if how == "all" else _joined(population, output, how)


def _check_vote(population: Population) -> None:
    loss = population.pattern.loss
    binary = loss is not None and (loss.head == "sigmoid" or isinstance(loss, BinaryCrossEntropy))
    if loss is None or (loss.targets != "label" and not (binary and population.pattern.n_outputs == 1)):
        raise OptionError(f"how='vote' counts classes, and a model with the loss {loss!r} names none; use how='mean'")


def _joined(population: Population, everything: Any, how: str) -> Any:
    if how == "mean":
        return everything.mean(axis=0)
    answers = np.asarray(population.backend.to_numpy(everything))
    classes = answers.shape[2]
    votes = answers.argmax(axis=2) if classes > 1 else (answers[..., 0] > 0.5).astype(np.int64)
    counts = np.stack([(votes == c).sum(axis=0) for c in range(max(classes, 2))])
    return counts.argmax(axis=0)


def ensemble(population: Population, how: str, models: Any) -> Ensemble:
    """See `Population.ensemble`."""
    choice("how", how, ("mean", "vote"))
    if how == "vote":
        _check_vote(population)
    if models is None:
        chosen = list(range(population.n))
    elif isinstance(models, str):
        raise DTypeError(f"models is {models!r:.100}; expected how many of the best, or a list of numbers")
    elif not hasattr(models, "__iter__"):
        count = integer("models", models, 1)
        if count > population.n:
            raise OptionError(f"models is {count}; the population has {population.n}")
        chosen = population.ranking()[:count]
    else:
        chosen = models
    return Ensemble(population.subset(chosen), how)


class Ensemble:
    """Models that answer as one: `ensemble(X)` or `ensemble.predict(X)`. Copies: later training does not change it."""

    def __init__(self, members: Population, how: str) -> None:
        self.members, self.how = members, how

    def predict(self, X: Any, batch_size: int | None = None) -> Any:
        """The mean of their answers (N, n_outputs), or with how="vote" the class numbers (N,)."""
        return self.members.predict(X, batch_size, how=self.how)

    def __call__(self, X: Any) -> Any:
        return self.predict(X)

    def __len__(self) -> int:
        return self.members.n

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self)} models: {self.how}>"
