"""PyTorch as its users write it: nn.Sequential, a Python loop, Adam in its fused form.

In its favour: tensors are made and cut into batches beforehand, and no loss is read back.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import torch
from cases.networks import BETAS, EPSILON, RATE, Case
from torch.nn.functional import cross_entropy, mse_loss

from peers import Trainer

__all__ = ["Eager", "network", "set_threads", "trainer"]


def set_threads() -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def network(widths: tuple[int, ...], weights: list[Any]) -> torch.nn.Sequential:
    """Linear layers with ReLU between them; PyTorch keeps a weight matrix as (outputs, inputs)."""
    layers: list[torch.nn.Module] = []
    for k, (i, o) in enumerate(pairwise(widths)):
        linear = torch.nn.Linear(i, o)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weights[2 * k].T.copy()))
            linear.bias.copy_(torch.from_numpy(weights[2 * k + 1]))
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


class Eager(Trainer):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        set_threads()
        self.network = network(case.widths, case.weights())
        self.loss = cross_entropy if case.loss == "softmax" else mse_loss
        self.optimizer = torch.optim.Adam(self.network.parameters(), RATE, BETAS, EPSILON, fused=True)
        self.X, self.y = torch.from_numpy(case.X), torch.from_numpy(case.y)
        self.batches = list(zip(self.X.split(case.batch_size), self.y.split(case.batch_size), strict=True))

    def prepare(self, epochs: int) -> None:
        super().prepare(epochs)
        if self.orders is not None:
            self.orders = torch.from_numpy(self.orders)

    def run(self, epochs: int) -> None:
        for epoch in range(epochs):
            if self.orders is None:
                for x, y in self.batches:
                    self.step(x, y)
            else:
                for rows in self.orders[epoch].split(self.case.batch_size):
                    self.step(self.X[rows], self.y[rows])

    def step(self, x: Any, y: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.network(x), y).backward()
        self.optimizer.step()

    def results(self) -> list[Any]:
        with torch.no_grad():
            return [p.T.numpy().copy() if p.ndim == 2 else p.numpy().copy() for p in self.network.parameters()]


def trainer(case: Case) -> Eager:
    return Eager(case)
