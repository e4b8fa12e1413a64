"""PyTorch's `torch.func`: `vmap` of `grad` over stacked parameters, then one fused Adam over all of them.

Adam works number by number, so that of the stack is that of each model. Batches are cut beforehand.
"""

from __future__ import annotations

from typing import Any

import torch
from cases.networks import BETAS, EPSILON, RATE
from cases.populations import PopulationCase
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy, mse_loss

from peers.torch_eager import set_threads

__all__ = ["Stacked", "trainer"]


class Stacked:
    def __init__(self, case: PopulationCase) -> None:
        set_threads()
        self.case, one = case.one, case.one
        self.parameters = [torch.from_numpy(w) for w in case.weights()]
        self.optimizer = torch.optim.Adam(self.parameters, RATE, BETAS, EPSILON, fused=True)
        X, y = torch.from_numpy(one.X), torch.from_numpy(one.y)
        self.batches = list(zip(X.split(one.batch_size), y.split(one.batch_size), strict=True))
        measure = cross_entropy if one.loss == "softmax" else mse_loss

        def loss(parameters: list[Any], x: Any, y: Any) -> Any:
            *hidden, w, b = parameters
            for k in range(0, len(hidden), 2):
                x = torch.relu(x @ hidden[k] + hidden[k + 1])
            return measure(x @ w + b, y)

        self.gradients = vmap(grad(loss), in_dims=(0, None, None))

    def prepare(self, epochs: int) -> None:
        pass

    def run(self, epochs: int) -> None:
        for _ in range(epochs):
            for x, y in self.batches:
                for p, g in zip(self.parameters, self.gradients(self.parameters, x, y), strict=True):
                    p.grad = g
                self.optimizer.step()

    def results(self) -> list[Any]:
        return [p.numpy().copy() for p in self.parameters]


def trainer(case: PopulationCase) -> Stacked:
    return Stacked(case)
