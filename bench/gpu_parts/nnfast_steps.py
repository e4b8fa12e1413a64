"""nnfast's own contenders: jobs of many steps, jobs of one, and `Model.fit` as everybody calls it."""

from __future__ import annotations

import gc
from itertools import pairwise
from typing import Any

import numpy as np
from cases.networks import BETAS, EPSILON, RATE

import nnfast as nn
from gpu_parts.networks import Network, network
from gpu_parts.stand import Stand
from nnfast.protocol import Job

__all__ = ["fit", "jobs", "one_by_one", "predict_many", "predict_one"]

_stands: dict[bool, Stand] = {}


def stand_of(device: str) -> Stand:
    """One per process: a GPU is opened once, and its measurements serve all networks."""
    simulated = device == "simulated"
    if simulated not in _stands:
        _stands[simulated] = Stand(simulated=simulated)
    return _stands[simulated]


def model_of(case: Network, backend: Any, dtype: str = "float32") -> nn.Model:
    layers: list[nn.Layer] = []
    for i, o in pairwise(case.widths):
        layers += [nn.Dense(i, o, "zeros"), nn.ReLU()]
    adam = nn.Adam(RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)
    model = nn.Model(layers[:-1], nn.SoftmaxCrossEntropy(), adam, backend=backend, dtype=dtype, rng=0)
    model.set_weights(case.weights())
    return model


class Jobs:
    """Steps of the runner on rows that lie on the device; what a training loop of nnfast's comes down to."""

    def __init__(self, name: str, precision: str, device: str) -> None:
        self.case = network(name)
        self.stand = stand_of(device)
        backend = self.stand.backend(precision)
        self.model = model_of(self.case, backend)
        X, y = self.case.data()
        self.X, self.y = backend.asarray(X), backend.asarray(y)
        self.program, self.runner = self.model._programs.runner("train")
        self.steps = 0

    def job(self, count: int) -> Any:
        job = Job(
            self.model._buffers,
            self.X,
            self.y,
            steps=count,
            learning_rates=np.full(count, RATE),
            normalisers=np.full(count, float(self.case.batch)),
            first_step=self.steps + 1,
            key=0,
            scalars=self.model._programs.scalars(self.program),
        )
        self.steps += count
        return self.runner.run(job)

    def run(self, count: int) -> None:
        self.job(count)

    def losses(self, count: int) -> list[float]:
        return [float(s) / self.case.batch for s in self.job(count).sums[:, 0]]

    def costs(self) -> dict[str, Any]:
        """Bytes and FLOPs of each op that has something to do, and what the step became."""
        report = self.runner.report()
        costs = [
            cost
            for cost, row in zip(self.program.costs(self.case.batch), report, strict=True)
            if row.implementation != "nothing to do"
        ]
        found: dict[str, Any] = {"bytes": [c.bytes for c in costs], "flops": [c.flops for c in costs]}
        found["report"] = [f"{row.op}: {row.implementation}; {row.reason}" for row in report]
        steps = list(getattr(self.runner, "_steps", {}).values())
        if steps:
            found["calls"] = len(steps[-1].plan.calls)
            found["in a graph"] = steps[-1].is_captured
        return found

    def drop(self) -> None:
        del self.model, self.runner, self.X, self.y
        gc.collect()
        self.stand.cupy.get_default_memory_pool().free_all_blocks()


class OneByOne(Jobs):
    """A job per step, as `train_on_batch` makes them: a copy there, a copy back, and a wait for each."""

    def run(self, count: int) -> None:
        for _ in range(count):
            self.job(1)


class Fit(Jobs):
    """`Model.fit` on NumPy arrays, one epoch per step: checks, copies and history included."""

    def __init__(self, name: str, precision: str, device: str) -> None:
        super().__init__(name, precision, device)
        self.host = self.case.data()

    def run(self, count: int) -> None:
        X, y = self.host
        self.model.fit(X, y, epochs=count, shuffle=False, verbose=0)

    def losses(self, count: int) -> list[float]:
        self.run(count)
        return list(map(float, self.model.history.history["loss"]))


class PredictOne:
    """One row from NumPy to NumPy, by `model.predictor(1)`."""

    rows = 1

    def __init__(self, name: str, precision: str, device: str) -> None:
        self.stand, case = stand_of(device), network(name)
        backend = self.stand.backend(precision)
        self.model = model_of(case, backend)
        self.x = case.data()[0][: self.rows]
        self.predict, self.to_numpy = self.model.predictor(self.rows), backend.to_numpy

    def run(self, count: int) -> None:
        predict, to_numpy, x = self.predict, self.to_numpy, self.x
        for _ in range(count):
            to_numpy(predict(x))

    def outputs(self) -> list[float]:
        """Of the first row, as probabilities."""
        return [float(v) for v in self.to_numpy(self.predict(self.x))[0]]

    def drop(self) -> None:
        del self.model, self.predict


class PredictMany(PredictOne):
    """The whole batch, which lies on the device, answers staying there."""

    def __init__(self, name: str, precision: str, device: str) -> None:
        self.stand, case = stand_of(device), network(name)
        backend = self.stand.backend(precision)
        self.model = model_of(case, backend)
        self.x = backend.asarray(case.data()[0])
        self.program, self.runner = self.model._programs.runner("predict")
        self.y = backend.empty((case.batch, case.widths[-1]), np.float32)
        scalars = self.model._programs.scalars(self.program)
        self.job = Job(self.model._buffers, self.x, output=self.y, batch_size=case.batch, scalars=scalars)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.runner.run(self.job)

    def outputs(self) -> list[float]:
        self.run(1)
        return [float(v) for v in self.stand.cupy.asnumpy(self.y)[0]]

    def drop(self) -> None:
        del self.model, self.runner, self.job


jobs, one_by_one, fit, predict_one, predict_many = Jobs, OneByOne, Fit, PredictOne, PredictMany
