"""PyTorch's contenders: eager, compiled, and a whole step captured by hand as a CUDA graph, the one to beat.

All take the same batch, which lies on the device; no loss is read back while the clock runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from cases.networks import BETAS, EPSILON, RATE
from peers.torch_compiled import step_of
from peers.torch_eager import network as sequential
from torch.nn.functional import cross_entropy

from gpu_parts.networks import network

__all__ = ["compiled", "eager", "graph", "predict_many", "predict_one", "reduce_overhead"]

WARM_UP = 3  # steps on a side stream before a capture; PyTorch's documentation asks for a few


def set_precision(precision: str) -> None:
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


class Eager:
    """nn.Sequential, a Python loop, fused Adam."""

    capturable = False

    def __init__(self, name: str, precision: str, device: str) -> None:
        set_precision(precision)
        self.precision, self.device, self.case = precision, device, network(name)
        self.network = sequential(self.case.widths, self.case.weights()).to(device)
        self.parameters = list(self.network.parameters())
        options: dict[str, Any] = {"capturable": True} if self.capturable and device == "cuda" else {}
        self.optimizer = torch.optim.Adam(self.parameters, RATE, BETAS, EPSILON, fused=True, **options)
        X, y = self.case.data()
        self.x, self.y = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
        self.notes: dict[str, Any] = {}

    def step(self) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(self.network(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run(self, count: int) -> None:
        set_precision(self.precision)
        for _ in range(count):
            self.step()
        self.wait()

    def losses(self, count: int) -> list[float]:
        set_precision(self.precision)
        return [float(loss) for loss in [self.step().clone() for _ in range(count)]]

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def told(self) -> dict[str, Any]:
        return self.notes

    def drop(self) -> None:
        self.__dict__.clear()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.empty_cache()


class Graph(Eager):
    """`steps` steps captured as one CUDA graph: forward, backward and Adam(fused=True, capturable=True).

    As PyTorch's documentation has it: a few steps on a side stream, gradients set to None so that the captured
    backward pass allocates them in the graph's own pool and writes them instead of adding, then the capture. The steps
    of the warm-up are undone, so that the losses are those of the training that all make.
    """

    capturable = True

    def __init__(self, name: str, precision: str, device: str, steps: int = 1) -> None:
        super().__init__(name, precision, device)
        self.steps = steps
        start = [p.detach().clone() for p in self.parameters]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        self._begin_again(start)
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        self.captured: list[Any] = []
        with torch.cuda.graph(self.graph):
            for _ in range(steps):
                self.captured.append(self.step())
        self.wait()

    def _begin_again(self, start: list[Any]) -> None:
        """The first weights, and an optimizer that has made no step; in place, for the graph will hold addresses."""
        with torch.no_grad():
            for p, first in zip(self.parameters, start, strict=True):
                p.copy_(first)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()

    def run(self, count: int) -> None:
        for _ in range(-(-count // self.steps)):
            self.graph.replay()
        self.wait()

    def losses(self, count: int) -> list[float]:
        found: list[float] = []
        while len(found) < count:
            self.graph.replay()
            found += [float(loss) for loss in self.captured]
        return found[:count]


class Compiled(Eager):
    """The whole step under torch.compile, Adam written out, as in `peers/torch_compiled.py`.

    State and batch are named static, so that "reduce-overhead" may update them inside its graph and copies nothing. One
    process must not compile two networks: the second one's shapes might then become dynamic.
    """

    mode: str | None = None

    def __init__(self, name: str, precision: str, device: str) -> None:
        super().__init__(name, precision, device)
        weights = [torch.from_numpy(w).to(device) for w in self.case.weights()]
        zeros = [[torch.zeros_like(w) for w in weights] for _ in range(2)]
        self.state = (weights, *zeros, torch.zeros((), device=device))
        if self.mode == "reduce-overhead":
            for tensor in (*weights, *zeros[0], *zeros[1], self.state[3], self.x, self.y):
                torch._dynamo.mark_static_address(tensor)
        self.compiled = torch.compile(step_of(cross_entropy), mode=self.mode, fullgraph=True, dynamic=False)

    def step(self) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():  # the gradient comes from torch.func, so the tape would be for nothing
            return self.compiled(*self.state, self.x, self.y)

    def told(self) -> dict[str, Any]:
        from torch._dynamo.utils import counters

        return {"cudagraph skips": int(counters["inductor"].get("cudagraph_skips", 0))}


class ReduceOverhead(Compiled):
    mode = "reduce-overhead"


class PredictOne:
    """One row from NumPy to NumPy; `captured` as a CUDA graph between two copies by page-locked memory."""

    rows = 1

    def __init__(self, name: str, precision: str, device: str, captured: bool = False) -> None:
        set_precision(precision)
        case = network(name)
        self.precision, self.device = precision, device
        self.network = sequential(case.widths, case.weights()).to(device)
        self.x = case.data()[0][: self.rows or case.batch]
        self.x_there = torch.from_numpy(self.x).to(device)
        self.graph: Any = None
        with torch.inference_mode():
            self.y_there = self._answer()
        if captured:
            self.x_here = torch.from_numpy(self.x.copy()).pin_memory()
            self.y_here = torch.empty(self.y_there.shape).pin_memory()
            self._capture()

    def _answer(self) -> Any:
        return torch.softmax(self.network(self.x_there), dim=1)

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._answer()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            self.y_there = self._answer()
        self.graph = graph

    def run(self, count: int) -> None:
        set_precision(self.precision)
        with torch.inference_mode():
            for _ in range(count):
                self.once()

    def once(self) -> Any:
        """NumPy to NumPy."""
        if self.graph is None:
            self.x_there = torch.from_numpy(self.x).to(self.device)
            return self._answer().cpu().numpy()
        self.x_here.numpy()[...] = self.x
        self.x_there.copy_(self.x_here, non_blocking=True)
        self.graph.replay()
        self.y_here.copy_(self.y_there, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return self.y_here.numpy().copy()

    def outputs(self) -> list[float]:
        with torch.inference_mode():
            return [float(v) for v in np.asarray(self.once())[0]]

    def told(self) -> dict[str, Any]:
        return {}

    def drop(self) -> None:
        self.__dict__.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class PredictMany(PredictOne):
    """The whole batch, which lies on the device, answers staying there; waits once per call."""

    rows = 0

    def once(self) -> Any:
        if self.graph is None:
            self.y_there = self._answer()
        else:
            self.graph.replay()
        if self.device == "cuda":
            torch.cuda.current_stream().synchronize()
        return self.y_there

    def outputs(self) -> list[float]:
        with torch.inference_mode():
            return [float(v) for v in self.once()[0].cpu()]


eager, graph, compiled, reduce_overhead = Eager, Graph, Compiled, ReduceOverhead
predict_one, predict_many = PredictOne, PredictMany
