"""PyTorch in training populations: `vmap` of `grad` over stacked parameters, eager and captured by hand."""

from __future__ import annotations

from typing import Any

import torch
from cases.networks import BETAS, EPSILON, RATE
from torch.func import grad_and_value, vmap
from torch.nn.functional import cross_entropy

from gpu_parts.networks import network
from gpu_parts.torch_steps import Eager, Graph, set_precision

__all__ = ["eager", "graph"]


class Stacked(Eager):
    """One fused Adam over all models: it works number by number."""

    def __init__(self, name: str, precision: str, device: str) -> None:
        set_precision(precision)
        self.precision, self.device, self.case = precision, device, network(name)
        self.parameters = [torch.from_numpy(w).to(device) for w in self.case.stacked_weights()]
        options: dict[str, Any] = {"capturable": True} if self.capturable and device == "cuda" else {}
        self.optimizer = torch.optim.Adam(self.parameters, RATE, BETAS, EPSILON, fused=True, **options)
        X, y = self.case.data()
        self.x, self.y = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
        self.notes: dict[str, Any] = {}
        self.gradients = vmap(grad_and_value(_loss), in_dims=(0, None, None))

    def step(self) -> Any:
        """The mean of the models' losses."""
        gradients, losses = self.gradients(self.parameters, self.x, self.y)
        for p, g in zip(self.parameters, gradients, strict=True):
            p.grad = g
        self.optimizer.step()
        return losses.detach().mean()


class StackedGraph(Graph, Stacked):
    """A step captured as a CUDA graph."""


def _loss(parameters: list[Any], x: Any, y: Any) -> Any:
    *hidden, w, b = parameters
    for k in range(0, len(hidden), 2):
        x = torch.relu(x @ hidden[k] + hidden[k + 1])
    return cross_entropy(x @ w + b, y)


eager, graph = Stacked, StackedGraph
