"""nnfast's single ops as everybody calls them: `nn.functional`, checks of the arguments included, and a predictor."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from cases import ops as op_cases
from cases.ops import OpCase

import nnfast as nn
from peers.nnfast_fit import set_threads
from peers.timing import Predictor, given

__all__ = ["subject"]


class _Subject:
    def prepare(self, count: int) -> None:
        pass


class Adam(_Subject):
    def __init__(self, backend: str, n: int) -> None:
        self.p, self.g = op_cases.adam_inputs(n)
        self.m, self.v = np.zeros_like(self.p), np.zeros_like(self.p)
        self.steps, self.backend = 0, backend

    def run(self, count: int) -> None:
        p, g, m, v, backend = self.p, self.g, self.m, self.v, self.backend
        for step in range(self.steps + 1, self.steps + count + 1):
            nn.functional.adam_step(p, g, m, v, step=step, learning_rate=op_cases.RATE, backend=backend)
        self.steps += count

    def results(self) -> list[Any]:
        return [a[: op_cases.PARAMETERS] for a in (self.p, self.m, self.v)]


class SoftmaxCrossEntropy(_Subject):
    def __init__(self, backend: str, n: int, o: int) -> None:
        self.logits, self.y = op_cases.logits(n, o)
        self.backend = backend

    def run(self, count: int) -> None:
        logits, y, backend = self.logits, self.y, self.backend
        for _ in range(count):
            self.answer = nn.functional.softmax_cross_entropy(logits, y, backend=backend)

    def results(self) -> list[Any]:
        loss, gradient = self.answer
        return [np.array([loss]), gradient.reshape(-1)[: op_cases.PARAMETERS]]


class Dense(_Subject):
    def __init__(self, backend: str, backward: bool, *sizes: int) -> None:
        self.inputs = op_cases.dense_inputs(*sizes)
        self.backend, self.backward = backend, backward

    def run(self, count: int) -> None:
        (x, w, b, dy), backend = self.inputs, self.backend
        for _ in range(count):
            y = nn.functional.dense(x, w, b, activation="relu", backend=backend)
            self.answer = [y]
            if self.backward:
                self.answer += nn.functional.dense_backward(x, w, dy, y=y, activation="relu", backend=backend)

    def results(self) -> list[Any]:
        return self.answer


class PredictOne(Predictor):
    def __init__(self, backend: str, widths: tuple[int, ...], batch: int) -> None:
        weights, x = given(widths, batch)
        layers: list[nn.Layer] = []
        for i, o in pairwise(widths):
            layers += [nn.Dense(i, o), nn.ReLU()]
        self.model = nn.Model(layers[:-1], backend=backend)
        self.model.set_weights(weights)
        self.call = partial(self.model.predictor(batch=batch), x)


def subject(case: OpCase, backend: str, batch: int = 1) -> Any:
    set_threads()
    if case.kind == "adam":
        return Adam(backend, *case.sizes)
    if case.kind == "softmax_cross_entropy":
        return SoftmaxCrossEntropy(backend, *case.sizes)
    if case.kind == "predict_one":
        return PredictOne(backend, case.sizes, batch)
    return Dense(backend, case.kind == "dense_backward", *case.sizes)
