"""PyTorch's single ops, eager: fused Adam, cross-entropy and linear layers with their gradients from the tape."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from cases import ops as op_cases
from cases.ops import OpCase
from torch.nn.functional import cross_entropy, linear

from peers.timing import Predictor, given
from peers.torch_eager import network, set_threads

__all__ = ["subject"]


class _Subject:
    def prepare(self, count: int) -> None:
        pass


class Adam(_Subject):
    def __init__(self, n: int) -> None:
        p, g = (torch.from_numpy(a) for a in op_cases.adam_inputs(n))
        self.p = torch.nn.Parameter(p)
        self.p.grad = g
        self.optimizer = torch.optim.Adam([self.p], op_cases.RATE, op_cases.BETAS, op_cases.EPSILON, fused=True)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.optimizer.step()

    def results(self) -> list[Any]:
        state = self.optimizer.state[self.p]
        arrays = (self.p.detach(), state["exp_avg"], state["exp_avg_sq"])
        return [a.numpy()[: op_cases.PARAMETERS] for a in arrays]


class SoftmaxCrossEntropy(_Subject):
    def __init__(self, n: int, o: int) -> None:
        logits, y = op_cases.logits(n, o)
        self.logits, self.y = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(y)

    def run(self, count: int) -> None:
        logits, y = self.logits, self.y
        for _ in range(count):
            logits.grad = None
            self.loss = cross_entropy(logits, y)
            self.loss.backward()

    def results(self) -> list[Any]:
        gradient = self.logits.grad
        assert gradient is not None
        return [np.array([self.loss.item()]), gradient.numpy().reshape(-1)[: op_cases.PARAMETERS]]


class Dense(_Subject):
    """The weight matrix lies as (outputs, inputs), as torch.nn.Linear has it."""

    def __init__(self, backward: bool, *sizes: int) -> None:
        x, w, b, dy = op_cases.dense_inputs(*sizes)
        self.backward = backward
        self.inputs = [torch.from_numpy(a).requires_grad_(backward) for a in (x, w.T.copy(), b)]
        self.dy = torch.from_numpy(dy)

    def run(self, count: int) -> None:
        (x, w, b), dy = self.inputs, self.dy
        for _ in range(count):
            self.y = torch.relu(linear(x, w, b))
            if self.backward:
                x.grad = w.grad = b.grad = None
                self.y.backward(dy)

    def results(self) -> list[Any]:
        y = self.y.detach().numpy()
        if not self.backward:
            return [y]
        dx, dw, db = (a.grad.numpy() for a in self.inputs if a.grad is not None)
        return [y, dx, dw.T, db]


class PredictOne(Predictor):
    """In its favour: the rows are a tensor already, and the answer stays one."""

    def __init__(self, widths: tuple[int, ...], batch: int) -> None:
        weights, x = given(widths, batch)
        self.call = partial(network(widths, weights), torch.from_numpy(x))

    def run(self, count: int) -> None:
        with torch.inference_mode():
            super().run(count)

    def latencies(self, count: int) -> Any:
        with torch.inference_mode():
            return super().latencies(count)


def subject(case: OpCase, batch: int = 1) -> Any:
    set_threads()
    if case.kind == "adam":
        return Adam(*case.sizes)
    if case.kind == "softmax_cross_entropy":
        return SoftmaxCrossEntropy(*case.sizes)
    if case.kind == "predict_one":
        return PredictOne(case.sizes, batch)
    return Dense(case.kind == "dense_backward", *case.sizes)
