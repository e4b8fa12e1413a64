"""nnfast as everybody calls it: `Model.fit`. It draws its row orders itself, inside the time measured."""

from __future__ import annotations

import os
from typing import Any

from cases.networks import Case, nnfast_model

import nnfast as nn

__all__ = ["Fit", "set_threads", "trainer"]


def set_threads() -> None:
    """As many threads as everybody has; backends that leave this to the environment have read it there."""
    if hasattr(nn, "set_num_threads"):
        nn.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


class Fit:
    def __init__(self, case: Case, backend: str) -> None:
        set_threads()
        self.case = case
        self.model = nnfast_model(case, backend)

    def prepare(self, epochs: int) -> None:
        pass

    def run(self, epochs: int) -> None:
        case = self.case
        self.model.fit(case.X, case.y, epochs=epochs, batch_size=case.batch_size, shuffle=case.shuffle, verbose=0)

    def results(self) -> list[Any]:
        return self.model.get_weights()


def trainer(case: Case, backend: str) -> Fit:
    return Fit(case, backend)
