"""The book's forward pass in NumPy, with the classes of `peers.book`, up to the raw outputs of the last layer."""

from __future__ import annotations

from typing import Any

from cases.ops import OpCase

from peers.book import Dense, ReLU
from peers.timing import Predictor, given

__all__ = ["subject"]


class Predict(Predictor):
    def __init__(self, widths: tuple[int, ...], batch: int) -> None:
        weights, self.x = given(widths, batch)
        self.dense = [Dense(w, b) for w, b in zip(weights[::2], weights[1::2], strict=True)]
        self.relu = [ReLU() for _ in self.dense[1:]]
        self.call = self.forward

    def forward(self) -> Any:
        values = self.dense[0].forward(self.x)
        for relu, dense in zip(self.relu, self.dense[1:], strict=True):
            values = dense.forward(relu.forward(values))
        return values


def subject(case: OpCase, batch: int = 1) -> Predict:
    assert case.kind == "predict_one"
    return Predict(case.sizes, batch)
