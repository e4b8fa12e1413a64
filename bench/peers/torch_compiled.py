"""PyTorch under torch.compile: forward, loss, gradient and Adam in one graph, without a break.

`torch.func.grad_and_value` brings the backward pass into the graph and Adam is written out, in place on the state. Of
the ways to compile a step this was the fastest here, by a factor of two on small networks: compiling the model with its
loss and `optimizer.step` apart, or the step as `torch_eager` has it, leaves Python between the parts.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from cases.networks import BETAS, EPSILON, RATE, Case

from peers.torch_eager import Eager

__all__ = ["Compiled", "step_of", "trainer"]


class Compiled(Eager):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.parameters = [torch.from_numpy(w) for w in case.weights()]
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]
        self.steps = torch.zeros(())  # a tensor: a Python number would be a constant of the graph
        self.compiled = torch.compile(step_of(self.loss), fullgraph=True)

    def run(self, epochs: int) -> None:
        with torch.no_grad():  # the gradient comes from torch.func, so the tape would be for nothing
            super().run(epochs)

    def step(self, x: Any, y: Any) -> None:
        self.compiled(self.parameters, self.m, self.v, self.steps, x, y)

    def again(self) -> None:
        self._epochs = 0
        for p, start in zip(self.parameters, self.case.weights(), strict=True):
            p.copy_(torch.from_numpy(start))
        for state in (*self.m, *self.v, self.steps):
            state.zero_()

    def results(self) -> list[Any]:
        return [p.numpy().copy() for p in self.parameters]


def step_of(loss: Any) -> Any:
    """One step on state that it changes in place, as a function to compile; it returns the loss."""
    b1, b2 = BETAS

    def objective(parameters: list[Any], x: Any, y: Any) -> Any:
        *hidden, w, b = parameters
        for k in range(0, len(hidden), 2):
            x = torch.relu(torch.addmm(hidden[k + 1], x, hidden[k]))
        return loss(torch.addmm(b, x, w), y)

    gradient = torch.func.grad_and_value(objective)

    def step(parameters: list[Any], ms: list[Any], vs: list[Any], steps: Any, x: Any, y: Any) -> Any:
        gradients, value = gradient(parameters, x, y)
        steps.add_(1)
        c1, c2 = -torch.expm1(steps * math.log(b1)), -torch.expm1(steps * math.log(b2))  # 1 − βᵗ, exact in float32
        for p, m, v, g in zip(parameters, ms, vs, gradients, strict=True):
            m.mul_(b1).add_(g, alpha=1 - b1)
            v.mul_(b2).addcmul_(g, g, value=1 - b2)
            p.sub_(RATE * (m / c1) / ((v / c2).sqrt() + EPSILON))
        return value

    return step


def trainer(case: Case) -> Compiled:
    torch._dynamo.reset()  # it compiles one function for 8 networks at most, then runs it eagerly
    return Compiled(case)
