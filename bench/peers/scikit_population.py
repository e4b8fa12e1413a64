"""scikit-learn under joblib: an `MLPClassifier` per model, trained by as many processes as there are threads.

Models go to a process and come back, as they do in a grid search; a process takes as many of them at a time as are its
share, which is the way with the least to send.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from cases.populations import PopulationCase
from joblib import Parallel, delayed

from peers.scikit_learn import ScikitLearn

__all__ = ["Joblib", "trainer"]


def _trained(models: list[ScikitLearn], epochs: int) -> list[ScikitLearn]:
    for model in models:
        model.prepare(epochs)
        model.run(epochs)
    return models


class Joblib:
    def __init__(self, case: PopulationCase) -> None:
        threads = int(os.environ["OMP_NUM_THREADS"])
        models = [ScikitLearn(case.member(k)) for k in range(case.n)]
        share = -(-case.n // threads)
        self.shares = [models[i : i + share] for i in range(0, case.n, share)]
        self.parallel = Parallel(n_jobs=threads)

    def prepare(self, epochs: int) -> None:
        pass

    def run(self, epochs: int) -> None:
        self.shares = self.parallel(delayed(_trained)(share, epochs) for share in self.shares)

    def results(self) -> list[Any]:
        every = [model.results() for share in self.shares for model in share]
        return [np.stack(arrays) for arrays in zip(*every, strict=True)]


def trainer(case: PopulationCase) -> Joblib:
    return Joblib(case)
